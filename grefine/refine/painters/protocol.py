"""What every painter is given and gives back: crops with masks, words, strengths and seeds in; crops out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Self

import numpy as np
from torch import Tensor

from grefine.refine.composite import resize
from grefine.refine.denoise import Watch
from grefine.refine.job import Job
from grefine.refine.painters.families import Phrasing
from grefine.refine.settings import PLAIN, UNetTraits
from grefine.types import Weights


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
    drawn: int = 1
    """Of how many tries it was taken."""


@dataclass(frozen=True)
class Painting:
    """What one call of the pipeline asks of a painter in one of its stages."""

    pipe: Any
    """The pipeline of the call: its progress bar, its interrupt."""
    watch: Watch = field(default_factory=Watch)
    stage: str = "repaint"
    """Or "restore"."""
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


@dataclass(frozen=True, kw_only=True)
class Painter:
    """Anything that can redraw crops under their masks. One crop gives the same whatever crops come with it."""

    name: str
    """What results call it."""
    side: int
    """Side of the square that crops are brought to."""
    multiple: int
    """What sides of crops are multiples of."""
    traits: UNetTraits = PLAIN
    """What it was trained to, and how strongly it paints."""
    sees_source: bool = False
    """True when it is shown what lies under the mask, so that nothing is filled in there first."""
    phrasing: Phrasing = field(default_factory=Phrasing)
    """How it wants to be told."""
    steps: tuple[int, int] = (10, 10)
    """Executed steps of both stages where nobody asked for a number."""
    restorer: str = "none"
    """Stage 2 where nobody chose one."""
    guidance: float | None = None
    """Its guidance where nobody asked for another."""
    unguided: float | None = None
    """What stage 2 is guided by."""
    painting: Painting = field(default_factory=lambda: Painting(None))
    """The call and stage that it is ready for."""

    def at(self, painting: Painting) -> Self:
        """Return it ready for a stage of a call."""
        return replace(self, painting=painting)

    def dropped(self, crops_weighted: bool) -> list[str]:
        """Say what of the words of a call it has no place for."""
        del crops_weighted
        return []

    def key(self, crop: CropJob) -> Any:
        """Return what crops must share to be redrawn together."""
        return crop.size, crop.strength

    def draw(self, crops: Sequence[CropJob]) -> list[Painted]:
        """Redraw crops of one key."""
        raise NotImplementedError

    def __call__(self, crops: Sequence[CropJob]) -> list[Painted]:
        """Return what became of each crop; one that cannot be pasted keeps its pixels and says why."""
        asked, done = self.painting, dict[int, Painted]()
        keys = [self.key(crop) for crop in crops]
        order = sorted(range(len(crops)), key=lambda index: repr(keys[index]))
        for _, group in groupby(order, key=lambda index: keys[index]):
            alike = list(group)
            limit = batch_limit(crops[alike[0]].size, asked.batch_size, asked.max_batch_pixels)
            for start in range(0, len(alike), limit):
                batch = alike[start : start + limit]
                for index, one in zip(batch, self.draw([crops[index] for index in batch]), strict=True):
                    done[index] = replace(one, pixels=crops[index].pixels) if one.lost else one
        return [done[index] for index in range(len(crops))]

    def taken(self, pixels: np.ndarray, crop: CropJob, any_size: bool = False) -> Painted:
        """Return a redrawn crop, in 0..255, at its own size again; lost where it cannot be used."""
        if pixels.shape != (*crop.size, 3) and not any_size:
            got = "x".join(map(str, pixels.shape[1::-1])) if pixels.ndim == 3 else f"the shape {pixels.shape}"
            asked = f"{crop.size[1]}x{crop.size[0]} pixels were asked for"
            return Painted(crop.pixels, lost=f"{self.name} gave back {got} where {asked}.")
        if not np.isfinite(pixels).all():
            return Painted(crop.pixels, lost=f"{self.name} gave back values that are no finite numbers.")
        return Painted(resize(pixels, *crop.mask.shape))


def batch_limit(size: tuple[int, int], most: int, max_batch_pixels: float) -> int:
    """Return how many crops of a size are redrawn at once."""
    return max(1, int(min(most, max_batch_pixels // (size[0] * size[1]))))
