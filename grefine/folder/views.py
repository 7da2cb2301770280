"""The table and the page of a run, from its journal and what the journal's first row says of the run."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grefine.folder.dataset import write_dataset
from grefine.folder.progress import Reporter
from grefine.folder.report import write_run_report
from grefine.folder.summary import RunSummary, write_table
from grefine.io.run_files import DATASET, LastRows

if TYPE_CHECKING:
    from grefine.folder.task import Task
    from grefine.scorers.prefilter import ScoreGate

TABLE, PAGE = "results.csv", "report.html"
VIEWS = (TABLE, PAGE, "report_files")


def view_of(task: "Task", gate: "ScoreGate | None", pipe: Any) -> dict[str, Any]:
    """Return what the views of a run need beside its rows, as plain values for the journal."""
    from grefine.indicators.domain_check import domain_of

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
        write_run_report(rows, out, facts, notes, summary.told if view.get("force") else "")

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
