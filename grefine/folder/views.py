"""The table and the page of a run, from its journal and what the journal's first row says of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from grefine.errors import ImageError
from grefine.folder.dataset import write_dataset
from grefine.folder.mirror import at_hand
from grefine.folder.progress import Reporter
from grefine.folder.summary import RunSummary, write_table
from grefine.indicators.domain_check import domain_of
from grefine.io.images import decode_image
from grefine.io.picture import printable
from grefine.io.places import place_at
from grefine.io.run_files import DATASET, LastRows, layer_names, layers_at
from grefine.io.samples import read_place
from grefine.report.entry import ReportImage, ReportText
from grefine.report.page import write_page
from grefine.report.records import asked_of, decision_name
from grefine.types import MetricSpec

if TYPE_CHECKING:
    from grefine.folder.task import Task
    from grefine.scorers.prefilter import ScoreGate

TABLE, PAGE = "results.csv", "report.html"
VIEWS = (TABLE, PAGE, "report_files")
_ORIGINAL = {"untouched": "untouched", "kept": "original kept", "beyond": "beyond repair"}
SHOWN = 5000
"""Images in the gallery of a page, and lines in its list of those without a result; the table has all."""


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

    def leave_out(self, state: str, name: str, reason: str) -> None:
        """Count one that has no result, and list it among the first."""
        if len(self.left_out[state]) < SHOWN:
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
        return f"{_counted(sum(counts.values()))}: {', '.join(parts)}" if parts else "There was no image"

    def sentences(self) -> Iterator[str]:
        """Yield what a reader should know first."""
        if self.failed:
            have = "has" if self.failed == 1 else "have"
            yield f"{_counted(self.failed)} failed and {have} no result: the reasons are listed below."
        if self.kept["kept"]:
            subject = _counted(self.kept["kept"]).lower()
            yield f"For {subject} the refined picture was not better, so the original was kept."
        if self.kept["untouched"]:
            yield f"{_counted(self.kept['untouched'])} had nothing to repair and came back untouched."
        if self.kept["beyond"]:
            yield f"{_counted(self.kept['beyond'])} came back untouched and should be generated anew: too much is bad."
        if self.unguarded:
            yield f"{_counted(self.unguarded)} had no judge beside the one that made the mask: look at them yourself."
        if self.refined:
            yield (
                "The scores on this page chose what was kept, so they prove nothing; `grefine evaluate` with other "
                "metrics does. Gains count in units of a judge's own noise on the picture: what is below 1 is none."
            )


def _counted(count: int) -> str:
    return "One image" if count == 1 else f"{count:,} images"


def _images(rows: LastRows, out: Path, tally: RefineTally, step: int) -> Iterator[ReportImage]:
    for number, row in enumerate(rows):
        if row["state"] in tally.left_out:
            tally.leave_out(row["state"], printable(row["file"]), row["reason"])
            continue
        decision = row.get("decision") or {}
        kept = decision_name(row["state"], decision.get("kept", ""))
        guarded = decision.get("guarded") if row["state"] in ("refined", "kept") else None
        if number % step:
            tally.count(kept, guarded)
            continue
        scores = row.get("scores") or {"before": {}, "after": {}}
        shown: dict[str, Any] = {"prompt": row.get("prompt", "")} | asked_of(row)
        with at_hand(out, [row["output"], *layer_names(row["output"])]):
            shown |= layers_at(out, row["output"])
            yield ReportImage(
                name=printable(row["file"]),
                before=picture_before(row["source"]),
                after=out / row["output"],
                kept=kept,
                reason=row["reason"],
                guarded=guarded,
                scores={m: (then, scores["after"][m]) for m, then in scores["before"].items() if m in scores["after"]},
                noise=row.get("noise", {}),
                notes=tuple(row.get("notes", ())),
                **shown,
            )


def picture_before(source: str) -> Path | Image.Image:
    """Return the input; of one that can no longer be read, a path where nothing is."""
    place = place_at(source)
    if isinstance(place, Path):
        return place
    try:
        return decode_image(read_place(place), source).rgb
    except ImageError:
        return Path(source)


def view_of(task: "Task", gate: "ScoreGate | None", pipe: Any) -> dict[str, Any]:
    """Return what the views of a run need beside its rows, as plain values for the journal."""
    facts = [("pipeline", task.pipeline), ("settings", task.hash_of()), ("seed", str(task.options.seed))]
    facts += [("gate", gate.name)] if gate else []
    facts += task.drawn_by.items()
    facts += [("painter", task.painter_name)] if task.painter else []
    guidance = task.config.guidance or {}
    facts += [("steered by", ", ".join(f"{name} {weight:g}" for name, weight in guidance.items()))] if guidance else []
    facts += [("candidates", str(task.config.candidates))] if task.config.tries[0] > 1 else []
    facts += [("force", "yes")] if task.options.force else []
    domain = domain_of(pipe)
    return {
        "facts": [list(fact) for fact in facts],
        "warning": gate.warning if gate else "",
        "force": task.options.force,
        "world": asdict(domain.world) if domain else None,
    }


def conclude(
    rows: LastRows, out: Path, view: Mapping[str, Any], summary: RunSummary, report: Reporter, page: bool
) -> None:
    """Write the table and the page; neither takes the other with it, and the run ends in order without them."""

    def write_page() -> None:
        facts = [(str(name), str(value)) for name, value in view.get("facts", ())]
        notes = [*([view["warning"]] if view.get("warning") else []), *summary.lines()[1:]]
        tally, step = RefineTally(), max(1, -(-len(rows) // SHOWN))
        if step > 1:
            notes.insert(
                0, f"The gallery shows one image of {step}; {TABLE} beside this page lists all {len(rows):,}."
            )
        forced = summary.told if view.get("force") else ""
        images = _images(rows, out, tally, step)
        write_refine_report(out, images, tally, facts=facts, notes=notes, forced=forced)

    views: dict[str, Callable[[], object]] = {TABLE: lambda: write_table(rows, rows.metrics, out / TABLE)}
    if page:
        views[PAGE] = write_page
    if view.get("dataset") and not summary.stopped:
        views[DATASET] = lambda: write_dataset(rows, out, str(view["dataset"]))
    for name, write in views.items():
        try:
            write()
        except Exception as error:  # noqa: BLE001 - the results are there, whatever befalls their table or page
            summary.unwritten.append(name)
            report({"event": "note", "text": f"{name} could not be written: {type(error).__name__}: {error}"})


def write_refine_report(
    out: str | Path,
    images: Iterable[ReportImage],
    tally: RefineTally,
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
