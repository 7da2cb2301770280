"""The table and the page of a run, from its journal and what the journal's first row says of it."""

from collections.abc import Callable, Iterator, Mapping
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
from grefine.report.entry import ReportImage
from grefine.report.records import asked_of, decision_name
from grefine.report.run_page import RefineTally, write_refine_report

if TYPE_CHECKING:
    from grefine.folder.task import Task
    from grefine.scorers.prefilter import ScoreGate

TABLE, PAGE = "results.csv", "report.html"
VIEWS = (TABLE, PAGE, "report_files")
SHOWN = 5000
"""Images in the gallery of a page, and lines in its list of those without a result; the table has all."""


def _images(rows: LastRows, out: Path, tally: RefineTally, step: int) -> Iterator[ReportImage]:
    for number, row in enumerate(rows):
        if row["state"] in tally.left_out:
            tally.leave_out(row["state"], printable(row["file"]), row["reason"], SHOWN)
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
