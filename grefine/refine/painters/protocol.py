"""What every painter is given and gives back: crops with masks, words, strengths and seeds in; crops out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Protocol, Self

import numpy as np
from torch import Tensor

from grefine.refine.denoise import Watch
from grefine.refine.emphasis import Weights
from grefine.refine.job import Job
from grefine.refine.painters.phrasing import Phrasing
from grefine.refine.settings import UNetTraits


@dataclass(frozen=True)
class CropJob:
    """One crop to be redrawn, and where it comes from."""

    job: Job
    index: int
    pixels: np.ndarray
    """`(h, w, 3)` in 0..255 at the picture's own scale."""
    mask: np.ndarray
    """`(h, w)` bool, True = redraw."""
    size: tuple[int, int]
    """Height and width that it is redrawn at."""
    prompt: str
    strength: float
    seed: int
    weights: Weights = ()
    """Of the prompt's characters; only CLIP's encoders know them."""
    source_visible: bool = False
    """The painter sees what lies under the mask."""
    repair_in_place: bool = False
    """It only looks bad and its damage is in sight: no words steer it, and few steps do."""


@dataclass(frozen=True)
class Painted:
    """What became of one crop."""

    pixels: np.ndarray
    """`(h, w, 3)` in 0..255 at the crop's own size."""
    latents: Tensor | None = None
    """What was decoded to them; None from a painter without latents."""
    lost: str = ""
    """Why it cannot be used, as a sentence; its pixels are then the crop's own."""


@dataclass(frozen=True)
class Painting:
    """What one call of the pipeline asks of a painter in one of its stages."""

    pipe: Any
    """The pipeline of the call: its progress bar, its interrupt."""
    watch: Watch = field(default_factory=Watch)
    steps: int = 1
    """Executed ones."""
    batch_size: int = 1
    """Crops at once, at most."""
    max_batch_pixels: float = math.inf
    guidance: float | None = None
    """None: the pipeline's, which a callback may change."""
    negative: str | Sequence[str] | None = None
    """What to move away from: one text, or one per image."""

    def negative_of(self, job: Job) -> str | None:
        """Return what a job's image moves away from."""
        return self.negative if self.negative is None or isinstance(self.negative, str) else self.negative[job.row]


class Painter(Protocol):
    """Anything that can redraw crops under their masks. One crop gives the same whatever crops come with it."""

    @property
    def name(self) -> str:
        """What results call it."""
        ...

    @property
    def side(self) -> int:
        """Side of the square that crops are brought to."""
        ...

    @property
    def multiple(self) -> int:
        """What sides of crops are multiples of."""
        ...

    @property
    def traits(self) -> UNetTraits:
        """What it was trained to, and how strongly it paints."""
        ...

    @property
    def sees_source(self) -> bool:
        """True when it is shown what lies under the mask, so that nothing is filled in there first."""
        ...

    @property
    def phrasing(self) -> Phrasing:
        """How it wants to be told."""
        ...

    def at(self, painting: Painting) -> Self:
        """Return it ready for a stage of a call."""
        ...

    def __call__(self, crops: Sequence[CropJob], stage: str) -> list[Painted]:
        """Return what became of each crop."""
        ...


def batches(
    keys: Sequence[Any], sizes: Sequence[tuple[int, int]], most: int, max_batch_pixels: float
) -> list[list[int]]:
    """Group crops of equal keys into batches of at most `most` and so many pixels."""
    order = sorted(range(len(keys)), key=lambda index: repr(keys[index]))
    found = []
    for _, group in groupby(order, key=lambda index: keys[index]):
        members = list(group)
        limit = batch_limit(sizes[members[0]], most, max_batch_pixels)
        found += [members[start : start + limit] for start in range(0, len(members), limit)]
    return found


def batch_limit(size: tuple[int, int], most: int, max_batch_pixels: float) -> int:
    """Return how many crops of a size are redrawn at once."""
    return max(1, int(min(most, max_batch_pixels // (size[0] * size[1]))))


def checked(painted: Sequence[Painted], crops: Sequence[CropJob], name: str) -> list[Painted]:
    """Return what can be pasted; one of another size, or with values that are no numbers, is lost with a sentence."""
    return [_checked(one, crop, name) for one, crop in zip(painted, crops, strict=True)]


def _checked(one: Painted, crop: CropJob, name: str) -> Painted:
    if one.lost:
        return replace(one, pixels=crop.pixels)
    if one.pixels.shape != crop.pixels.shape:
        height, width = crop.mask.shape
        got = "x".join(map(str, one.pixels.shape[1::-1]))
        return Painted(crop.pixels, lost=f"{name} gave back {got} pixels for a crop of {width}x{height}.")
    if not np.isfinite(one.pixels).all():
        return Painted(crop.pixels, lost=f"{name} gave back values that are no finite numbers.")
    return one
