"""The page of a run: every image before and after, with its maps, its decision and the reason, from the journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grefine.folder.worklist import STATE_FOLDER
from grefine.io.images import printable
from grefine.io.journal import read_journal

if TYPE_CHECKING:
    from grefine.evaluate.report import ReportImage

MAPS = "maps"
_LAYERS = ("quality", "alignment", "mask")


def layer_path(out: Path, name: str, layer: str) -> Path:
    """Return where the map of a result is kept for the page."""
    return out / STATE_FOLDER / MAPS / f"{name}.{layer}.png"


def write_run_report(journal: Path, out: Path, facts: list[tuple[str, str]], notes: list[str]) -> Path:
    """Write `report.html` for all images that the journal tells of; images are read one at a time."""
    from grefine.evaluate.report import write_refine_report

    failed = [(printable(r["file"]), r["reason"]) for r in _last_rows(journal) if r["state"] == "failed"]
    return write_refine_report(out, _images(journal, out), facts=facts, failed=failed, notes=notes)


def _images(journal: Path, out: Path) -> Iterator[ReportImage]:
    from grefine.evaluate.report import ReportImage

    for row in _last_rows(journal):
        before, after = Path(row.get("source", "")), out / row.get("output", "")
        if row["state"] in ("failed", "skipped") or not before.is_file() or not after.is_file():
            continue
        layers = {name: layer_path(out, row["output"], name) for name in _LAYERS}
        maps: dict[str, Any] = {name: path for name, path in layers.items() if path.is_file()}
        scores = row.get("scores") or {"before": {}, "after": {}}
        decision = row.get("decision") or {}
        yield ReportImage(
            name=printable(row["file"]),
            before=before,
            after=after,
            prompt=row.get("prompt", ""),
            kept=decision.get("kept", "original"),
            reason=row["reason"],
            guarded=decision.get("guarded"),
            scores={m: (scores["before"][m], scores["after"][m]) for m in scores["before"] if m in scores["after"]},
            notes=tuple(row.get("notes", ())),
            **maps,
        )


def _last_rows(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the last row of every image: an input that was refined anew has an older one."""
    last = {row["file"]: number for number, row in enumerate(read_journal(journal)) if row["kind"] == "image"}
    for number, row in enumerate(read_journal(journal)):
        if row["kind"] == "image" and last[row["file"]] == number:
            yield row
