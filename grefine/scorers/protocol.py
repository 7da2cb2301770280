"""The one calling convention of every scorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    from PIL import Image


@runtime_checkable
class Scorer(Protocol):
    """Anything that turns images (and their prompts) into numbers.

    A scorer is deterministic, takes images of mixed sizes, and gives an image the same values whatever else is in
    the call. A metric with one value names it like itself ("lar_iqa"); one with several prefixes them
    ("mdiqa.overall", "mdiqa.sharpness").
    """

    spec: MetricSpec

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        """Return one record of values per image.

        Raises:
            ImageError: an image that this metric cannot handle (range, size, kind).
            PromptError: missing or empty prompts for a prompt-aware metric, or another number of them.
        """
        ...
