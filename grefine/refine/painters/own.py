"""Anyone's function as painter, and the painters that other packages bring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from grefine.errors import ConfigError
from grefine.plugins import plugged_in
from grefine.refine.composite import resize, resize_mask, rounded
from grefine.refine.painters.phrasing import Phrasing
from grefine.refine.painters.protocol import CropJob, Painted, Painter
from grefine.types import PainterSpec

GROUP = "grefine.painters"
"""The entry point group under which other packages bring painters."""


@dataclass(frozen=True)
class OwnPainter(Painter):
    """A function `paint(images, masks, prompts, strengths, seeds, steps) -> images`; it names what it wants of these.

    Images are PIL, masks PIL in mode L (white = redraw), all of one size; it returns PIL images, or arrays
    `(H, W, 3)`: uint8, or floats in 0..1. A `spec` (`PainterSpec`) on it says its size and how it is told.
    """

    paint: Callable[..., Sequence[Any]]
    origin: str = ""
    """Its name where another package brings it."""

    def key(self, crop: CropJob) -> Any:
        """Equally large crops are redrawn together: each has its own strength."""
        return crop.size

    def draw(self, crops: Sequence[CropJob], stage: str) -> list[Painted]:
        """Call the function."""
        del stage
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
        arrays = [np.asarray(one.convert("RGB") if isinstance(one, Image.Image) else one) for one in back]
        pixels = [values.astype(np.float32) * (1 if values.dtype == np.uint8 else 255) for values in arrays]
        return [self.taken(one, crop) for one, crop in zip(pixels, crops, strict=True)]


def own_painter(paint: Callable[..., Sequence[Any]], spec: PainterSpec | None = None, origin: str = "") -> OwnPainter:
    """Return a function as painter, as its `spec` says."""
    wanted = inspect.signature(paint).parameters
    if not {"images", "masks"} & wanted.keys() and not any(p.kind is p.VAR_KEYWORD for p in wanted.values()):
        raise ConfigError(
            f"A painter{f' ({origin})' if origin else ''} is a function of images, masks, prompts, strengths, seeds, "
            f"steps, or of some of them, a picture or a mask among them; it takes {list(wanted)}."
        )
    spec = spec or getattr(paint, "spec", None)
    spec = spec or PainterSpec(getattr(paint, "__name__", type(paint).__name__).strip("<>_"))
    sees = {"sees_source": spec.sees_source, "phrasing": Phrasing.of(spec.words, "phrase first")}
    return OwnPainter(paint, origin, name=spec.name, side=spec.side, multiple=spec.multiple, **sees)


def painter_files() -> dict[str, Any]:
    """Return the painters of other packages by name; one that cannot be imported is left out with a warning.

    Each has a `SPEC` (`PainterSpec`) and `load`, from a device to a function as `OwnPainter` takes it.
    """
    return plugged_in(GROUP, "painter")


def load_own(name: str, device: str = "cpu", allow_noncommercial: bool = False) -> OwnPainter:
    """Load a painter that another package brings."""
    file = painter_files()[name]
    if file.SPEC.noncommercial and not allow_noncommercial:
        raise ConfigError(
            f"The painter '{name}' runs under non-commercial terms ({file.SPEC.licence}); pass --allow-noncommercial "
            "if yours is such a use."
        )
    return own_painter(file.load(device), file.SPEC, name)
