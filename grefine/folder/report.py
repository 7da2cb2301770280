"""The page of a run: every image before and after, with its maps, its decision and the reason, from the journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grefine.io.picture import printable
from grefine.io.run_files import last_rows, layers_at
from grefine.report.entry import ReportImage
from grefine.report.records import asked_of, decision_name
from grefine.report.run_page import write_refine_report


def write_run_report(
    journal: Path, out: Path, facts: list[tuple[str, str]], notes: list[str], forced: str = ""
) -> Path:
    """Write `report.html` for all images that the journal tells of; images are read one at a time."""
    left: dict[str, list[tuple[str, str]]] = {"failed": [], "skipped": []}
    for row in last_rows(journal):
        if row["state"] in left:
            left[row["state"]].append((printable(row["file"]), row["reason"]))
    return write_refine_report(out, _images(journal, out), facts=facts, notes=notes, forced=forced, **left)


def _images(journal: Path, out: Path) -> Iterator[ReportImage]:
    for row in last_rows(journal):
        if row["state"] in ("failed", "skipped"):
            continue
        scores = row.get("scores") or {"before": {}, "after": {}}
        decision = row.get("decision") or {}
        shown: dict[str, Any] = {"prompt": row.get("prompt", "")} | asked_of(row) | layers_at(out, row["output"])
        yield ReportImage(
            name=printable(row["file"]),
            before=Path(row["source"]),
            after=out / row["output"],
            kept=decision_name(row["state"], decision.get("kept", "")),
            reason=row["reason"],
            guarded=decision.get("guarded") if row["state"] in ("refined", "kept") else None,
            scores={m: (scores["before"][m], scores["after"][m]) for m in scores["before"] if m in scores["after"]},
            noise=row.get("noise", {}),
            notes=tuple(row.get("notes", ())),
            **shown,
        )
