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
_UNGUARDED = "had no judge beside the one that made the mask: look at them yourself."
_NO_PROOF = (
    "The scores on this page chose what was kept, so they prove nothing; `grefine evaluate` with other metrics does. "
    "Gains count in units of a judge's own noise on the picture: what is below 1 is none."
)
SHOWN = 5000
"""Images in the gallery of a page, and lines in its list of those without a result; the table has all."""


class RefineTally:
    """Counts decisions, and lists what has no result, with the reasons."""

    def __init__(self) -> None:
        self.kept, self.left_out = Counter[str](), Counter[str]()
        self.unguarded = 0
        self._listed: dict[str, list[tuple[str, str]]] = {"failed": [], "skipped": []}

    def count(self, kept: str, guarded: bool | None) -> None:
        """Count one image with its decision."""
        self.kept[kept] += 1
        self.unguarded += guarded is False

    def leave_out(self, state: str, name: str, reason: str) -> None:
        """Count one that has no result, and list it among the first."""
        self.left_out[state] += 1
        if self.left_out[state] <= SHOWN:
            self._listed[state].append((name, reason))

    def text(self, facts: Sequence[tuple[str, str]], notes: Sequence[str], forced: str) -> ReportText:
        """Return what the page says: all inputs by state, those that failed first; then what is to be known first."""
        failed, skipped = self.left_out["failed"], self.left_out["skipped"]
        refined = sum(count for name, count in self.kept.items() if name not in _ORIGINAL)
        counts = {"failed": failed, "refined": refined} | {words: self.kept[name] for name, words in _ORIGINAL.items()}
        counts["skipped"] = skipped
        parts = [f"{count:,} {words}" for words, count in counts.items() if count]
        have = "has" if failed == 1 else "have"
        kept, untouched, beyond = (self.kept[name] for name in ("kept", "untouched", "beyond"))
        sentences = (
            (failed, f"{_counted(failed)} failed and {have} no result: the reasons are listed below."),
            (kept, f"For {_counted(kept).lower()} the refined picture was not better, so the original was kept."),
            (untouched, f"{_counted(untouched)} had nothing to repair and came back untouched."),
            (beyond, f"{_counted(beyond)} came back untouched and should be generated anew: too much is bad."),
            (self.unguarded, f"{_counted(self.unguarded)} {_UNGUARDED}"),
            (refined, _NO_PROOF),
        )
        listed = [*self._listed["failed"], *self._listed["skipped"]]
        more = {state: self.left_out[state] - SHOWN for state in self._listed}
        listed += [(f"{count:,} more {state}", "see results.csv") for state, count in more.items() if count > 0]
        return ReportText(
            title="Refinement",
            subtitle="What the refinement decided, image by image.",
            headline=f"{_counted(sum(counts.values()))}: {', '.join(parts)}" if parts else "There was no image",
            # A run of which nothing failed claims nothing either.
            tone="loss" if failed > self.kept.total() else "mixed" if failed else "even",
            sentences=tuple(sentence for count, sentence in sentences if count),
            facts=tuple(facts),
            missing=tuple(listed),
            notes=tuple(notes),
            forced=forced,
            decided=self.kept,
        )


def _counted(count: int) -> str:
    return "One image" if count == 1 else f"{count:,} images"


def _images(rows: LastRows, out: Path, tally: RefineTally, step: int) -> Iterator[ReportImage]:
    for number, row in enumerate(rows):
        if row["state"] in ("failed", "skipped"):
            tally.leave_out(row["state"], printable(row["file"]), row["reason"])
            continue
        decision, output = row.get("decision") or {}, row["output"]
        kept = decision_name(row["state"], decision.get("kept", ""))
        guarded = decision.get("guarded") if row["state"] in ("refined", "kept") else None
        if number % step:
            tally.count(kept, guarded)
            continue
        scores = row.get("scores") or {"before": {}, "after": {}}
        with at_hand(out, [output, *layer_names(output)]):
            yield ReportImage(
                name=printable(row["file"]),
                before=picture_before(row["source"]),
                after=out / output,
                kept=kept,
                reason=row["reason"],
                guarded=guarded,
                scores={m: (then, scores["after"][m]) for m, then in scores["before"].items() if m in scores["after"]},
                noise=row.get("noise", {}),
                notes=tuple(row.get("notes", ())),
                **{"prompt": row.get("prompt", "")} | asked_of(row) | layers_at(out, output),
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
    guidance = task.config.guidance or {}
    facts = {"pipeline": task.pipeline, "settings": task.hash_of(), "seed": str(task.options.seed)}
    facts |= {"gate": gate.name if gate else "", **task.drawn_by, "painter": task.painter_name}
    facts["steered by"] = ", ".join(f"{name} {weight:g}" for name, weight in guidance.items())
    facts["candidates"] = str(task.config.candidates) if task.config.tries[0] > 1 else ""
    facts["force"] = "yes" if task.options.force else ""
    domain = domain_of(pipe)
    return {
        "facts": [[name, value] for name, value in facts.items() if value],
        "warning": gate.warning if gate else "",
        "force": task.options.force,
        "world": asdict(domain.world) if domain else None,
    }


def conclude(
    rows: LastRows, out: Path, view: Mapping[str, Any], summary: RunSummary, report: Reporter, page: bool
) -> None:
    """Write the table and the page; neither takes the other with it, and the run ends in order without them."""

    def write_gallery() -> None:
        facts = [(str(name), str(value)) for name, value in view.get("facts", ())]
        step = max(1, -(-len(rows) // SHOWN))
        few = f"The gallery shows one image of {step}; {TABLE} beside this page lists all {len(rows):,}."
        notes = [few if step > 1 else "", view.get("warning"), *summary.lines()[1:]]
        tally, forced = RefineTally(), summary.told if view.get("force") else ""
        images = _images(rows, out, tally, step)
        write_refine_report(out, images, tally, facts=facts, notes=[*filter(None, notes)], forced=forced)

    views: dict[str, Callable[[], object]] = {TABLE: lambda: write_table(rows, rows.metrics, out / TABLE)}
    if page:
        views[PAGE] = write_gallery
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

    def entries() -> Iterator[list[ReportImage]]:
        for image in images:
            tally.count(image.kept, image.guarded)
            shown.update({name: MetricSpec(name, used_in_loop=True) for name in image.scores if name not in shown})
            yield [image]

    return write_page(out, entries(), lambda: tally.text(facts, notes, forced), shown, in_noise=True)
