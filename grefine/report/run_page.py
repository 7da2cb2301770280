"""The page of a refinement run: what was decided for each image, and why."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from grefine.report.entry import ReportImage, ReportText
from grefine.report.page import write_page
from grefine.types import MetricSpec

_ORIGINAL = {"untouched": "untouched", "kept": "original kept", "beyond": "beyond repair"}


def write_refine_report(
    out: str | Path,
    images: Iterable[ReportImage],
    tally: "RefineTally",
    *,
    facts: Sequence[tuple[str, str]] = (),
    notes: Sequence[str] = (),
    forced: str = "",
) -> Path:
    """Write the report of a refinement run: what was decided for each image, and why.

    The run's own scores made or guarded its decisions, so the page shows them, in units of each judge's own noise, and
    says that they prove nothing; `grefine evaluate` with other metrics does.

    Images are read one at a time, once, and counted in `tally`; a caller counts those there that are not shown.
    """
    shown: dict[str, MetricSpec] = {}

    def text() -> ReportText:
        return ReportText(
            title="Refinement",
            subtitle="What the refinement decided, image by image.",
            headline=tally.headline(),
            # A run of which nothing failed claims nothing either.
            tone="loss" if tally.failed > tally.kept.total() else "mixed" if tally.failed else "even",
            sentences=tuple(tally.sentences()),
            facts=tuple(facts),
            missing=tally.missing,
            notes=tuple(notes),
            forced=forced,
            decided=tally.kept,
        )

    def entries() -> Iterator[list[ReportImage]]:
        for image in images:
            tally.count(image.kept, image.guarded)
            for name in image.scores:
                shown.setdefault(name, MetricSpec(name, used_in_loop=True))
            yield [image]

    return write_page(out, entries(), text, shown, in_noise=True)


class RefineTally:
    """Counts decisions, and lists what has no result, with the reasons."""

    def __init__(self) -> None:
        self.left_out: dict[str, list[tuple[str, str]]] = {"failed": [], "skipped": []}
        self.more: Counter[str] = Counter()
        """How many of these are not listed."""
        self.kept: Counter[str] = Counter()
        self.unguarded = 0

    def count(self, kept: str, guarded: bool | None) -> None:
        """Count one image with its decision."""
        self.kept[kept] += 1
        self.unguarded += guarded is False

    def leave_out(self, state: str, name: str, reason: str, most: int) -> None:
        """Count one that has no result, and list it among the first `most`."""
        if len(self.left_out[state]) < most:
            self.left_out[state].append((name, reason))
        else:
            self.more[state] += 1

    @property
    def failed(self) -> int:
        """How many images failed."""
        return len(self.left_out["failed"]) + self.more["failed"]

    @property
    def missing(self) -> tuple[tuple[str, str], ...]:
        """The list of what has no result."""
        more = [
            (f"{self.more[state]:,} more {state}", "see results.csv") for state in self.left_out if self.more[state]
        ]
        return (*self.left_out["failed"], *self.left_out["skipped"], *more)

    @property
    def refined(self) -> int:
        """How many images were changed."""
        return sum(count for name, count in self.kept.items() if name not in _ORIGINAL)

    def headline(self) -> str:
        """Return all inputs by state, those that failed first."""
        skipped = len(self.left_out["skipped"]) + self.more["skipped"]
        counts = {"failed": self.failed, "refined": self.refined}
        counts |= {words: self.kept[name] for name, words in _ORIGINAL.items()} | {"skipped": skipped}
        parts = [f"{count:,} {words}" for words, count in counts.items() if count]
        return f"{_images(sum(counts.values()))}: {', '.join(parts)}" if parts else "There was no image"

    def sentences(self) -> Iterator[str]:
        """Yield what a reader should know first."""
        if self.failed:
            have = "has" if self.failed == 1 else "have"
            yield f"{_images(self.failed)} failed and {have} no result: the reasons are listed below."
        if self.kept["kept"]:
            subject = _images(self.kept["kept"]).lower()
            yield f"For {subject} the refined picture was not better, so the original was kept."
        if self.kept["untouched"]:
            yield f"{_images(self.kept['untouched'])} had nothing to repair and came back untouched."
        if self.kept["beyond"]:
            yield f"{_images(self.kept['beyond'])} came back untouched and should be generated anew: too much is bad."
        if self.unguarded:
            yield f"{_images(self.unguarded)} had no judge beside the one that made the mask: look at them yourself."
        if self.refined:
            yield (
                "The scores on this page chose what was kept, so they prove nothing; `grefine evaluate` with other "
                "metrics does. Gains count in units of a judge's own noise on the picture: what is below 1 is none."
            )


def _images(count: int) -> str:
    return "One image" if count == 1 else f"{count:,} images"
