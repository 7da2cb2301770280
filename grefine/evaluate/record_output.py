"""Keep what the pipeline said of an output in a comparison, in the places where a run of `grefine refine` keeps it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from grefine import __version__
from grefine.io.encode import pixel_digest, with_text
from grefine.io.journal import Journal
from grefine.io.record import KEY, RefineRecord
from grefine.io.run_files import JOURNAL, STATE_FOLDER, layer_path
from grefine.report.media import layers_of
from grefine.types import RefineResult


def tag_output(png: bytes, source: str, pipeline: str, seed: int, result: RefineResult) -> bytes:
    """Return the coded picture with the record of how it came to be; `source` is the hash of the input file."""
    record = RefineRecord(
        version=__version__,
        pipeline=Path(pipeline).name,
        config="",
        seed=seed,
        state=state_of(result),
        reason=result.decision.reason,
        kept=result.decision.kept,
        guarded=result.decision.guarded,
        area=round(result.plan.area, 4),
        prompt=result.prompt,
        before=dict(result.before.values),
        after=dict(result.after.values),
        source=source,
        pixels=pixel_digest(png, "PNG", hashlib.sha256),
    )
    return with_text(png, "PNG", KEY, record.to_text()) or png


def keep_row(folder: Path, name: str, path: Path, source: str, result: RefineResult) -> None:
    """Append the output's row to the folder's journal and write its maps; `source` is the hash of the file `path`."""
    (folder / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    row = {
        "kind": "image",
        "file": name,
        "output": name,
        "source": str(path),
        "state": state_of(result),
        "reason": result.decision.reason,
        "input": {"sha256": source},
        "decision": {"kept": result.decision.kept, "guarded": result.decision.guarded},
    }
    if result.plan.token_weights:
        row["asked"] = {"text": result.plan.prompt, "weights": [list(part) for part in result.plan.token_weights]}
    for layer, data in layers_of(result).items():
        target = layer_path(folder, name, layer)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    with Journal(folder / STATE_FOLDER / JOURNAL) as journal:
        journal.append([row])


def state_of(result: RefineResult) -> str:
    """Return the state that a folder run would give the image."""
    if result.decision.kept != "original":
        return "refined"
    if len(result.decision.candidates) > 1:
        return "kept"
    return "beyond" if result.plan.beyond_repair else "untouched"
