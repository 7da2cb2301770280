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
    ("mdiqa.overall", "mdiqa.sharpness") and lists those that it gives as `values`, the main one first.
    """

    spec: MetricSpec

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        """Return one record of values per image.

        Raises:
            ImageError: an image that this metric cannot handle (range, size, kind).
            PromptError: missing or empty prompts for a prompt-aware metric, or another number of them.
        """
        ...


def value_names(scorer: Scorer) -> tuple[str, ...]:
    """Return the names of the values that a scorer gives, the main one first."""
    return tuple(getattr(scorer, "values", ())) or (scorer.spec.name,)
