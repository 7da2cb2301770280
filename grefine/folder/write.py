"""From outcomes to files and rows: all files of a batch are staged first, then named, so that none is half there."""

import errno
import math
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grefine import __version__
from grefine.errors import GRefineError, ImageError
from grefine.folder.panel import panel_png
from grefine.folder.task import Outcome, Task
from grefine.folder.worklist import WorkItem
from grefine.io import atomic
from grefine.io.content import content_hash
from grefine.io.encode import encode_image, read_embedded
from grefine.io.images import CONTAINERS, SUFFIXES, read_bytes
from grefine.io.journal import Row
from grefine.io.picture import printable
from grefine.io.record import RefineRecord, attach_record, read_record
from grefine.io.run_files import layer_path
from grefine.refine.guidance import steers_of
from grefine.report.media import layers_of
from grefine.types import RefineResult

_STOPS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)


class DiskFull(GRefineError):
    """There is no room for results; the run has to stop."""


def write_outcomes(outcomes: Sequence[Outcome], task: Task) -> list[Row]:
    """Write the files of a batch and return its rows."""
    staged: list[tuple[Path, Path]] = []
    rows: list[Row] = []
    try:
        for outcome in outcomes:
            start = time.perf_counter()
            fault = _stage(outcome, task, staged) if outcome.state != "failed" else ""
            rows.append(row_of(outcome, fault, time.perf_counter() - start, task.options.seed))
        atomic.publish(staged)
    except BaseException as error:
        atomic.discard(partial for partial, _ in staged)
        if isinstance(error, OSError):
            raise full_disk(error) from error
        raise
    return rows


def _stage(outcome: Outcome, task: Task, staged: list[tuple[Path, Path]]) -> str:
    """Stage one image's result and panel; return why that was not possible, or an empty string."""
    item = outcome.reading.item
    before = len(staged)
    try:
        files = [(item.output, _result_bytes(outcome, task))]
        source, result = outcome.reading.image, outcome.result
        if task.options.panels and outcome.state == "refined" and source and result and outcome.image:
            after = outcome.image.convert("RGB")
            files.append((item.panel, panel_png(source.rgb, after, result, outcome.reading.prompt.prompt)))
        for path in (path for path, _ in files if path.is_dir()):
            return f"A folder stands where '{printable(path.name)}' belongs."
        for path, data in files:
            os.makedirs(path.parent, exist_ok=True)
            staged.append((atomic.stage(path, data), path))
        if task.options.report and result is not None:
            for name, data in layers_of(result).items():
                # The page of the run can do without its maps, so they are written plainly.
                path = layer_path(item.out, item.name, name)
                os.makedirs(path.parent, exist_ok=True)
                path.write_bytes(data)
    except GRefineError as error:
        return str(error)
    except (OSError, ValueError, MemoryError, struct.error) as error:
        on_disk = isinstance(error, OSError)
        if on_disk and error.errno in _STOPS:
            raise
        atomic.discard(partial for partial, _ in staged[before:])
        del staged[before:]
        told = f"written: {error.strerror or error}" if on_disk else f"encoded: {error}"
        return f"Its result cannot be {told}."
    return ""


def _result_bytes(outcome: Outcome, task: Task) -> bytes:
    """Return the bytes of a result: the input's own where nothing changed and the format allows, else encoded anew."""
    reading = outcome.reading
    image = reading.image
    if image is None:
        raise GRefineError("Only an image that was read can be written.")
    named = SUFFIXES.get(reading.item.output.suffix.lower())
    form = next((one for one in (task.options.written_format, image.format, named) if one in CONTAINERS), "PNG")
    plain = reading.data if outcome.image is None and form == image.format else None
    if plain is not None and reading.known:
        return plain
    record = _record(outcome, task)
    tagged = plain and attach_record(plain, form, record)
    if tagged:
        return tagged
    encoded = encode_image(outcome.image or image.rgb, image, form)
    return attach_record(encoded, form, record) or encoded


def _record(outcome: Outcome, task: Task) -> RefineRecord:
    result, reading = outcome.result, outcome.reading
    earlier = reading.record.passes if reading.record else 0
    judged = _gate_scores(outcome)
    return RefineRecord(
        version=__version__,
        pipeline=task.pipeline,
        config=task.hash_of(reading.item.relative),
        seed=task.options.seed if result is None or result.seed is None else result.seed,
        state=outcome.state,
        reason=outcome.reason,
        kept=result.decision.kept if result else "original",
        guarded=bool(result and result.decision.guarded),
        area=round(result.plan.area, 4) if result else 0.0,
        moved=round(result.moved, 4) if result else 0.0,
        painter=task.painter_name,
        prompt=reading.prompt.prompt,
        prompt_origin=reading.prompt.origin,
        before=dict(result.before.values) if result else judged,
        after=dict(result.after.values) if result else judged,
        gate=outcome.gate.name if outcome.gate else "",
        forced=outcome.foreign,
        drew=", ".join([*task.drew, *(steers_of(result.plan.guidance) if result else ())]),
        size=[] if reading.image is None else list(reading.image.rgb.size),
        **(_planned(result) if result else {}),
        source=reading.digest,
        passes=earlier + 1,
    )


def row_of(outcome: Outcome, fault: str, writing: float, seed: int) -> Row:
    """Return what the journal says of one image."""
    reading, result = outcome.reading, outcome.result
    row: Row = {
        "kind": "image",
        "file": reading.item.relative,
        "source": reading.item.where,
        "state": "failed" if fault else outcome.state,
        "reason": fault or outcome.reason,
        "input": {"sha256": reading.digest} | dict(reading.state),
        "prompt": reading.prompt.prompt[:2000],
        "prompt_origin": reading.prompt.origin,
        "seconds": {
            "read": round(reading.seconds, 4),
            "refine": round(outcome.seconds, 4),
            "write": round(writing, 4),
        },
    }
    told = {
        "size": list(reading.image.rgb.size) if reading.image is not None else [],
        "prompt_unsure": reading.prompt.unsure,
        "prompt_set_aside": reading.prompt.set_aside,
        "notes": list(outcome.notes),
        "unexpected": outcome.unexpected,
        "foreign": outcome.foreign,
        "output": "" if row["state"] == "failed" else reading.item.name,
    }
    row |= {name: value for name, value in told.items() if value}
    if reading.known and reading.record is not None:
        row["scores"] = {"before": dict(reading.record.before), "after": dict(reading.record.after)}
    if outcome.gate is not None and not fault:
        gate = outcome.gate
        score = None if gate.score is None else round(gate.score, 6)
        row["gate"] = {"value": gate.value, "bound": gate.bound, "score": score, "passed": gate.passed}
        if gate.passed:
            row["decision"] = {"kept": "original", "guarded": False}
            row["scores"] = {"before": _gate_scores(outcome), "after": _gate_scores(outcome)}
    if result is not None and not fault:
        row["seed"] = seed
        row["decision"] = {"kept": result.decision.kept, "guarded": result.decision.guarded}
        row["scores"] = {"before": _finite(result.before.values), "after": _finite(result.after.values)}
        row["noise"] = _finite(result.decision.noise)
        row["area"] = round(result.plan.area, 4)
        row["moved"] = round(result.moved, 4)
        row |= _planned(result)
        if result.plan.token_weights:
            row["asked"] = {"text": result.plan.prompt, "weights": [list(part) for part in result.plan.token_weights]}
        row["seconds"]["stages"] = {name: round(value, 4) for name, value in result.timings.items()}
    return row


def _planned(result: RefineResult) -> dict[str, Any]:
    """Return what was planned to be repainted, and the phrases that were not met."""
    facts = result.to_dict()
    regions = [{name: part[name] for name in ("box", "kind", "strength")} for part in facts["regions"]]
    return {"regions": regions, "missing": [part["phrase"] for part in facts["missing"]]}


def _gate_scores(outcome: Outcome) -> dict[str, float]:
    """Return the value by which the gate left an image alone."""
    gate = outcome.gate
    return {gate.value: round(gate.score, 6)} if gate is not None and gate.passed and gate.score is not None else {}


def _finite(values: Any) -> dict[str, float]:
    return {str(k): round(float(v), 6) for k, v in values.items() if math.isfinite(v)}


def own_row(item: WorkItem, config_hash: str) -> Row | None:
    """Return the row of a result that an equal run made of this very input, but for the time that it took.

    None for any other file that stands there.
    """
    try:
        record = read_record(read_embedded(read_bytes(item.output)))
        if record is None or record.config != config_hash or record.source != content_hash(item.read()):
            return None
    except (ImageError, OSError):
        return None
    looked = ("seed", "area", "moved", "regions", "missing") if record.regions is not None else ()
    return {
        "kind": "image",
        "file": item.relative,
        "source": item.where,
        "state": record.state,
        "reason": record.reason,
        "input": {"sha256": record.source} | item.state(),
        "prompt": record.prompt[:2000],
        "prompt_origin": record.prompt_origin,
        "output": item.name,
        "decision": {"kept": record.kept, "guarded": record.guarded},
        "scores": {"before": dict(record.before), "after": dict(record.after)},
        "size": record.size,
        **{name: getattr(record, name) for name in looked},
        "notes": ["found in OUT with its record; the journal did not tell of it."],
    }


def full_disk(error: OSError) -> DiskFull:
    """Return why the run has to stop."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk is full: {error.strerror}.")
    return DiskFull(f"Results cannot be written: {error.strerror or error}.")
