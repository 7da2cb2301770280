"""Anyone's function as painter, and the painters that other packages bring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
from PIL import Image

from grefine.errors import ConfigError
from grefine.plugins import plugged_in
from grefine.refine.composite import resize, resize_mask, rounded
from grefine.refine.painters.phrasing import Phrasing
from grefine.refine.painters.protocol import CropJob, Painted, Painting, batches
from grefine.refine.settings import UNetTraits
from grefine.types import PainterSpec

GROUP = "grefine.painters"
"""The entry point group under which other packages bring painters."""
GIVEN = ("images", "masks", "prompts", "strengths", "seeds", "steps")


class PainterFile(Protocol):
    """What the file of a painter holds."""

    SPEC: PainterSpec
    load: Callable[[str], Callable[..., Sequence[Any]]]
    """From a device to a function of `images, masks, prompts, strengths, seeds` that returns one picture for each."""


@dataclass(frozen=True)
class OwnPainter:
    """A function `paint(images, masks, prompts, strengths, seeds, steps) -> images`; it names what it wants of these.

    Images are PIL, masks PIL in mode L (white = redraw), all of one size; it returns PIL images, or arrays
    `(H, W, 3)`: uint8, or floats in 0..1. A `spec` (`PainterSpec`) on it says its size and how it is told.
    """

    paint: Callable[..., Sequence[Any]]
    spec: PainterSpec
    origin: str = ""
    """Its name where another package brings it."""
    painting: Painting = field(default_factory=lambda: Painting(None))
    restorer: str = "none"
    """Stage 2 is its work only where it is asked for."""
    guidance: float | None = None
    unguided: float | None = None
    steps: tuple[int, int] = (10, 10)

    @property
    def name(self) -> str:
        """What results call it."""
        return self.spec.name

    @property
    def side(self) -> int:
        """Side of the square that crops are brought to."""
        return self.spec.side

    @property
    def multiple(self) -> int:
        """What sides of crops are multiples of."""
        return self.spec.multiple

    @property
    def sees_source(self) -> bool:
        """Whether it is shown what lies under the mask."""
        return self.spec.sees_source

    @property
    def traits(self) -> UNetTraits:
        """Strengths as SDXL has them."""
        return UNetTraits()

    @property
    def phrasing(self) -> Phrasing:
        """How it wants to be told."""
        return Phrasing.of(self.spec.words, "phrase first")

    def at(self, painting: Painting) -> Self:
        """Return it ready for a stage of a call."""
        return replace(self, painting=painting)

    def dropped(self, crops_weighted: bool) -> list[str]:
        """Say nothing: what a function does with its words is its own matter."""
        del crops_weighted
        return []

    def __call__(self, crops: Sequence[CropJob], stage: str) -> list[Painted]:
        """Redraw the crops, equally large ones together."""
        del stage
        asked, sizes = self.painting, [crop.size for crop in crops]
        done: dict[int, Painted] = {}
        for batch in batches(sizes, sizes, asked.batch_size, asked.max_batch_pixels):
            for index, one in zip(batch, self._paint([crops[i] for i in batch]), strict=True):
                done[index] = one
        return [done[index] for index in range(len(crops))]

    def _paint(self, crops: Sequence[CropJob]) -> list[Painted]:
        wanted = inspect.signature(self.paint).parameters
        every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in wanted.values())
        given = {
            "images": [Image.fromarray(rounded(resize(crop.pixels, *crop.size))) for crop in crops],
            "masks": [Image.fromarray(resize_mask(crop.mask, *crop.size).astype(np.uint8) * 255) for crop in crops],
            "prompts": [crop.prompt for crop in crops],
            "strengths": [crop.strength for crop in crops],
            "seeds": [crop.seed for crop in crops],
            "steps": self.painting.steps,
        }
        back = self.paint(**{name: value for name, value in given.items() if every or name in wanted})
        if not hasattr(back, "__len__") or len(back) != len(crops):
            what = f"{len(back)} pictures" if hasattr(back, "__len__") else type(back).__name__
            return [Painted(c.pixels, lost=f"{self.name} gave back {what} for {len(crops)} crops.") for c in crops]
        return [self._take(one, crop) for one, crop in zip(back, crops, strict=True)]

    def _take(self, image: Any, crop: CropJob) -> Painted:
        values = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        pixels = values.astype(np.float32) * (1 if values.dtype == np.uint8 else 255)
        if pixels.shape != (*crop.size, 3):
            got = "x".join(map(str, pixels.shape[1::-1])) if pixels.ndim == 3 else f"the shape {pixels.shape}"
            lost = f"{self.name} gave back {got} where {crop.size[1]}x{crop.size[0]} pixels were asked for."
            return Painted(crop.pixels, lost=lost)
        if not np.isfinite(pixels).all():
            return Painted(crop.pixels, lost=f"{self.name} gave back values that are no finite numbers.")
        return Painted(resize(pixels, *crop.mask.shape))


def own_painter(paint: Callable[..., Sequence[Any]]) -> OwnPainter:
    """Return a function as painter.

    Raises:
        ConfigError: it takes nothing that a painter is given.
    """
    wanted = inspect.signature(paint).parameters
    if not {"images", "masks"} & wanted.keys() and not any(p.kind is p.VAR_KEYWORD for p in wanted.values()):
        raise ConfigError(
            f"A painter is a function of {', '.join(GIVEN)}, or of some of them; it takes {list(wanted)}."
        )
    spec = getattr(paint, "spec", None) or PainterSpec(getattr(paint, "__name__", type(paint).__name__).strip("<>_"))
    return OwnPainter(paint, spec)


def painter_files() -> dict[str, PainterFile]:
    """Return the painters of other packages by name; one that cannot be imported is left out with a warning."""
    return plugged_in(GROUP, "painter")


def load_own(name: str, device: str = "cpu", allow_noncommercial: bool = False) -> OwnPainter:
    """Load a painter that another package brings.

    Raises:
        ConfigError: terms that were not accepted.
    """
    file = painter_files()[name]
    if file.SPEC.noncommercial and not allow_noncommercial:
        raise ConfigError(
            f"The painter '{name}' runs under non-commercial terms ({file.SPEC.licence}); pass --allow-noncommercial "
            "if yours is such a use."
        )
    return OwnPainter(file.load(device), file.SPEC)
