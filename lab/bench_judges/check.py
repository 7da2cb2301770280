"""How well the judges judge scenes that they were not trained on, and how far they move where nothing changed."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from grefine.evaluate.statistics import noise_band
from lab.bench_judges.networks import Judges
from lab.world.defects import damage
from lab.world.render import render
from lab.world.scene import sample
from lab.world.seeds import CHECK, source
from lab.world.vocabulary import DEFECT_KINDS

PRESENT = 0.012
"""Share of the picture in the asked thing and colour from which it counts as standing somewhere."""


def shifted(images: Tensor) -> Tensor:
    """Move pictures (B, 3, S, S) by one pixel down and right; the first row and column repeat."""
    return torch.nn.functional.pad(images, [1, 0, 1, 0], mode="replicate")[..., :-1, :-1]


def as_jpeg(images: Tensor, quality: int = 95) -> Tensor:
    """Write pictures (B, 3, S, S) in 0..1 as JPEG and read them again."""
    found = []
    for pixels in (images * 255).round().byte().permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(file).convert("RGB")))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True)
class TieBands:
    """The 95th percentile of each judgement's change under a shift by one pixel and under JPEG 95."""

    distance: float
    """Of the distance of a damaged picture to its clean scene inside the defect."""
    visible: float
    """Of `Judges.visible_change` of a clean picture."""
    count: int


def tie_bands(judges: Judges, count: int = 192) -> TieBands:
    """Measure the tie bands on scenes that nothing else uses."""
    generator = source(CHECK, 1)
    scenes = sample(count, generator)
    clean = render(scenes)
    spoilt = damage(clean.images, clean.objects.any(1), generator, DEFECT_KINDS)
    before = judges.distance(spoilt.images, clean.images, spoilt.masks)
    moved, seen = [], []
    for same in (shifted, as_jpeg):
        moved.append(judges.distance(same(spoilt.images), clean.images, spoilt.masks) - before)
        seen.append(judges.visible_change(same(clean.images), clean.images))
    return TieBands(noise_band(torch.cat(moved).numpy()), noise_band(torch.cat(seen).numpy()), count)


@torch.no_grad()
def check_judges(judges: Judges, count: int = 500) -> dict[str, float]:
    """Return the judges' own accuracy by name, each over `count` scenes of both kinds of combinations."""
    generator = source(CHECK, 2)
    found: dict[str, float] = {}
    for combinations in ("seen", "held_out"):
        scenes = sample(count, generator, combinations)
        right = judges.read(render(scenes).images, scenes).right(scenes)[scenes.present]
        for name, column in zip(("colour", "noun", "texture"), right.float().mean(0).tolist(), strict=True):
            found[name if combinations == "seen" else f"{name}_held_out"] = column
    scenes = sample(count, generator)
    clean = render(scenes)
    spoilt = damage(clean.images, clean.objects.any(1), generator, DEFECT_KINDS)
    found["defect_auc"] = _auc(judges.defect_map(spoilt.images), judges.defect_map(clean.images))
    first = scenes.noun[:, 0], scenes.colour[:, 0]
    found["present"] = float((judges.area_of(clean.images, *first) >= PRESENT)[scenes.present[:, 0]].float().mean())
    other = (first[1] + 4) % 8
    there = ((scenes.noun == first[0][:, None]) & (scenes.colour == other[:, None]) & scenes.present).any(1)
    found["absent"] = float((judges.area_of(clean.images, first[0], other) < PRESENT)[~there].float().mean())
    return found


def _auc(bad: Tensor, good: Tensor) -> float:
    """Return how often a damaged picture's worst cells look worse than a clean one's."""
    from grefine.indicators.calibrate import separation_of

    worst = [maps.flatten(1).topk(24, 1).values.mean(1).numpy() for maps in (bad, good)]
    return separation_of(*worst)
