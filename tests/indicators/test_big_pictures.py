"""A defect of three hundredths of a 1024 x 1024 picture is found through tiles, which one coarse look misses.

The trained pipeline looks at pictures of its world that are sixteen times as wide as its CLIP's input.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from grefine.indicators.load import load_maps
from grefine.indicators.pq_map import PQMap
from lab.tiny.clip import average_precision
from lab.world.pictures import to_picture
from lab.world.render import render
from lab.world.scene import sample

WIDE, SIDE = 1024, 177
"""177 / 1024 squared is 3 % of the area."""
SEED = 55_000_003


def one_scene(count: int, source: torch.Generator) -> torch.Tensor:
    return render(sample(count, source), WIDE).images


def many_scenes(count: int, source: torch.Generator) -> torch.Tensor:
    """Sixteen scenes side by side in each picture."""
    parts = render(sample(16 * count, source), WIDE // 4).images.view(count, 4, 4, 3, WIDE // 4, WIDE // 4)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(count, 3, WIDE, WIDE)


def spoil(image: torch.Tensor, kind: str, source: torch.Generator) -> tuple[Image.Image, np.ndarray]:
    """Put grainy noise or a wrong colour over a square; return the picture and where it is."""
    top, left = (int(n) for n in torch.randint(0, WIDE - SIDE, (2,), generator=source))
    if kind == "noise":
        cells = torch.randn(3, SIDE // 4 + 1, SIDE // 4 + 1, generator=source)
        change = 0.3 * cells.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :SIDE, :SIDE]
    else:
        change = 0.25 * torch.tensor([1.0, -0.5, -0.5])[:, None, None]
    image = image.clone()
    image[:, top : top + SIDE, left : left + SIDE] += change
    truth = np.zeros((WIDE, WIDE), dtype=bool)
    truth[top : top + SIDE, left : left + SIDE] = True
    return to_picture(image), truth


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "least", "better"), [(one_scene, 0.5, 1.05), (many_scenes, 0.3, 2.0)])
def test_tiles_find_what_a_coarse_look_misses(draw, least, better):
    torch.manual_seed(0)
    source = torch.Generator().manual_seed(SEED)
    maps = load_maps("tiny")
    tiled = PQMap(maps.pq.clip, maps.pq.prompts, calibration=maps.calibration)
    coarse = PQMap(maps.pq.clip, maps.pq.prompts, calibration=maps.calibration, tiles=1)
    assert tiled.map_mode == "paper"
    images = draw(6, source)
    cases = [spoil(image, kind, source) for kind in ("noise", "cast") for image in images]
    pictures, truths = [picture for picture, _ in cases], [truth for _, truth in cases]
    assert all(0.029 < truth.mean() < 0.031 for truth in truths)
    found, worst = [], []
    for pq in (tiled, coarse):
        badness = [1.0 - quality.values for quality in pq(pictures)]
        pairs = list(zip(badness, truths, strict=True))
        found.append(np.mean([average_precision(bad.ravel(), truth.ravel()) for bad, truth in pairs]))
        worst.append(np.mean([truth[bad >= np.quantile(bad, 0.97)].mean() for bad, truth in pairs]))
    assert found[0] > least, "the defect is among the worst pixels"
    assert found[0] > better * found[1], "one look at the whole finds it less well"
    assert worst[0] > worst[1]
    assert worst[0] > 10 * 0.03, "ten times as often as chance"
