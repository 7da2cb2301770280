"""How well the judges judge scenes that they were not trained on, and how far they move where nothing changed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from grefine.evaluate.statistics import noise_band
from grefine.indicators.evidence import separation_of
from lab.bench_judges.networks import Judges
from lab.world.defects import damage
from lab.world.files import through
from lab.world.pictures import tensor_of, to_picture
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
    return tensor_of([through(to_picture(image), "JPEG", quality=quality) for image in images])


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
    # How often a damaged picture's worst cells look worse than a clean one's.
    maps = (judges.defect_map(images).flatten(1) for images in (spoilt.images, clean.images))
    found["defect_auc"] = separation_of(*(cells.topk(24, 1).values.mean(1).numpy() for cells in maps))
    first = scenes.noun[:, 0], scenes.colour[:, 0]
    found["present"] = float((judges.area_of(clean.images, *first) >= PRESENT)[scenes.present[:, 0]].float().mean())
    other = (first[1] + 4) % 8
    there = ((scenes.noun == first[0][:, None]) & (scenes.colour == other[:, None]) & scenes.present).any(1)
    found["absent"] = float((judges.area_of(clean.images, first[0], other) < PRESENT)[~there].float().mean())
    return found
