"""What a run would do, without doing it: maps and plans of every picture, and no file written."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from grefine.folder.batch import plan_batches
from grefine.folder.progress import Reporter
from grefine.folder.ready import Ready
from grefine.folder.summary import RunSummary
from grefine.folder.thresholds import thresholds
from grefine.folder.worklist import list_work
from grefine.folder.write import row_of
from grefine.indicators.domain_check import domain_of


def preview(ready: Ready, sources: list[str | Path], report: Reporter) -> RunSummary:
    """Plan every picture as if OUT were empty; the summary's `planned` holds a row for each."""
    pipe, task, out = ready.pipe, ready.task, ready.out
    planned: list[dict[str, Any]] = []
    summary = RunSummary(out, domain=domain_of(pipe), force=task.options.force, planned=planned)

    def say(text: str) -> None:
        report({"event": "note", "text": text})

    with (
        tempfile.TemporaryDirectory() as folder,
        thresholds(pipe, task, Path(folder), lambda: list_work(sources, out, replace(task.options, limit=None)), say),
    ):
        for outcomes in plan_batches(pipe, list_work(sources, out, task.options), task, ready.shelf, ready.gate):
            for outcome in outcomes:
                row = row_of(outcome, "", 0.0, task.options.seed)
                planned.append({name: row[name] for name in row if name not in ("moved", "noise", "output")})
                summary.add(planned[-1])
    return summary
