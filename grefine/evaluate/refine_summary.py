"""What a refinement run decided, counted while its images pass by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from grefine.types import MetricSpec

if TYPE_CHECKING:
    from grefine.evaluate.report_entry import ReportImage


_ORIGINAL = ("untouched", "kept", "beyond")


class RefineTally:
    """Counts decisions; `watch` passes the images on unchanged."""

    def __init__(self, specs: Mapping[str, MetricSpec]) -> None:
        self.specs = {name: replace(spec, used_in_loop=True) for name, spec in specs.items()}
        self.kept: Counter[str] = Counter()
        self.unguarded = 0

    def watch(self, images: Iterable[ReportImage]) -> Iterator[ReportImage]:
        """Yield each image after counting it."""
        for image in images:
            self.kept[_named(image)] += 1
            self.unguarded += image.guarded is False
            for name in image.scores:
                self.specs.setdefault(name, MetricSpec(name, used_in_loop=True))
            yield image

    @property
    def total(self) -> int:
        """How many images passed."""
        return sum(self.kept.values())

    def headline(self) -> str:
        """Return the run in a few words."""
        changed = self.total - sum(self.kept[name] for name in _ORIGINAL)
        return f"{changed} of {self.total} images refined" if self.total else "No image was refined"

    def sentences(self, failed: int) -> Iterator[str]:
        """Yield what a reader should know first."""
        if self.kept["untouched"]:
            yield f"{_images(self.kept['untouched'])} had nothing to repair and came back untouched."
        if self.kept["kept"]:
            subject = _images(self.kept["kept"]).lower()
            yield f"For {subject} the refined picture was not better, so the original was kept."
        if self.kept["beyond"]:
            yield f"{_images(self.kept['beyond'])} came back untouched and should be generated anew: too much is bad."
        if self.unguarded:
            yield f"{_images(self.unguarded)} had no judge beside the one that made the mask: look at them yourself."
        if failed:
            yield f"{_images(failed)} failed: see the list below."
        if self.total:
            yield (
                "The scores on this page steered the refinement and prove nothing; `grefine evaluate` with other "
                "metrics does."
            )


def _named(image: ReportImage) -> str:
    """Return the decision; an entry made from the pipeline's own record says "original" for two of them."""
    if image.kept and image.kept != "original":
        return image.kept
    return "untouched" if image.mask is None else "kept"


def _images(count: int) -> str:
    return "One image" if count == 1 else f"{count} images"
