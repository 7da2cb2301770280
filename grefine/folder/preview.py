"""What a run would do, without doing it: maps and plans of every picture, and no file written."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from grefine.folder.batch import read_batch, refine_batch
from grefine.folder.loras import LoraShelf
from grefine.folder.progress import Reporter
from grefine.folder.summary import RunSummary
from grefine.folder.task import Task
from grefine.folder.thresholds import thresholds
from grefine.folder.worklist import WorkItem, list_work
from grefine.folder.write import row_of
from grefine.indicators.domain_check import domain_of
from grefine.scorers.prefilter import ScoreGate


def preview(
    pipe: Any,
    sources: list[str | Path],
    out: Path,
    task: Task,
    shelf: LoraShelf | None,
    gate: ScoreGate | None,
    report: Reporter,
) -> RunSummary:
    """Plan every picture as if OUT were empty; the summary's `planned` holds a row for each."""
    task, whole = replace(task, plan_only=True), replace(task.options, limit=None)
    planned: list[dict[str, Any]] = []
    summary = RunSummary(out, domain=domain_of(pipe), force=task.options.force, planned=planned)
    items = list_work(sources, out, task.options)

    def say(text: str) -> None:
        report({"event": "note", "text": text})

    with (
        tempfile.TemporaryDirectory() as folder,
        thresholds(pipe, task, Path(folder), lambda: list_work(sources, out, whole), say),
    ):
        while batch := list(islice(items, task.options.batch_size)):
            for row in _rows(pipe, batch, task, shelf, gate):
                summary.add(row)
                planned.append(row)
    return summary


def _rows(
    pipe: Any, batch: list[WorkItem], task: Task, shelf: LoraShelf | None, gate: ScoreGate | None
) -> Iterator[dict[str, Any]]:
    for item in (item for item in batch if item.refused):
        state = "failed" if item.failed else "skipped"
        yield {"kind": "image", "file": item.relative, "state": state, "reason": f"{item.refused}."}
    readings = read_batch([item for item in batch if not item.refused], task)
    for outcome in refine_batch(pipe, readings, task, shelf, gate):
        row = row_of(outcome, "", 0.0, task.options.seed)
        yield {name: value for name, value in row.items() if name not in ("moved", "noise", "output")}
