"""From outcomes to files and rows: all files of a batch are staged first, then named, so that none is half there."""

import errno
import os
import struct
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from grefine import __version__
from grefine.errors import GRefineError, ImageError
from grefine.folder.task import Outcome, Task
from grefine.folder.worklist import WorkItem
from grefine.indicators.draw import edge_of, fitting, grid, overlay, png
from grefine.io import atomic
from grefine.io.content import content_hash
from grefine.io.images import CONTAINERS, SUFFIXES, encode_image, read_bytes, read_embedded
from grefine.io.journal import Row
from grefine.io.picture import printable
from grefine.io.record import RefineRecord, attach_record, numbers, read_record
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
    item, source, result = outcome.reading.item, outcome.reading.image, outcome.result
    before = len(staged)
    try:
        files = [(item.output, _result_bytes(outcome, task))]
        if task.options.panels and outcome.state == "refined" and source and result and outcome.image:
            panel = panel_png(source.rgb, outcome.image.convert("RGB"), result, outcome.reading.prompt.prompt)
            files.append((item.panel, panel))
        for path, data in files:
            if path.is_dir():
                raise GRefineError(f"A folder stands where '{printable(path.name)}' belongs.")
            os.makedirs(path.parent, exist_ok=True)
            staged.append((atomic.stage(path, data), path))
        if task.options.report and result is not None:
            for name, data in layers_of(result).items():
                # The page of the run can do without its maps, so they are written plainly.
                path = layer_path(item.out, item.name, name)
                os.makedirs(path.parent, exist_ok=True)
                path.write_bytes(data)
        return ""
    except GRefineError as error:
        fault = str(error)
    except (OSError, ValueError, MemoryError, struct.error) as error:
        on_disk = isinstance(error, OSError)
        if on_disk and error.errno in _STOPS:
            raise
        told = f"written: {error.strerror or error}" if on_disk else f"encoded: {error}"
        fault = f"Its result cannot be {told}."
    atomic.discard(partial for partial, _ in staged[before:])
    del staged[before:]
    return fault


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


def panel_png(before: Image.Image, after: Image.Image, result: RefineResult, prompt: str) -> bytes:
    """Return before, map and after side by side, with their scores and the reason of the decision below, as PNG."""
    bad = np.array(overlay(before, np.clip(1.0 - result.quality.values + result.alignment.edit, 0.0, 1.0)))
    bad[edge_of(result.plan.mask)] = 255
    painted = "repainted " * (result.decision.kept in ("repainted", "both"))
    pictures = grid(
        [
            (before, f"before   {_scores(result.before.values)}"),
            (Image.fromarray(bad), f"bad places, {painted}inside ({result.plan.area:.0%})"),
            (after, f"after   {_scores(result.after.values)}"),
        ]
    )
    font, width = ImageFont.load_default(14), pictures.width - 16
    letters = max(1, int(width / font.getlength("n")))
    lines = textwrap.wrap(prompt[:600], letters, max_lines=2, placeholder=" …")
    lines += textwrap.wrap(result.decision.reason[:600], letters, max_lines=3, placeholder=" …")
    panel = ImageOps.expand(pictures, (0, 0, 0, 20 * len(lines)), (250, 250, 250))
    text = "\n".join(fitting(line, font, width) for line in lines)
    ImageDraw.Draw(panel).text((8, pictures.height), text, fill=(110, 110, 116), font=font)
    return png(panel)


def _scores(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {values[name]:.2f}" for name in ("p", "a") if name in values)


def _record(outcome: Outcome, task: Task) -> RefineRecord:
    result, reading = outcome.result, outcome.reading
    return RefineRecord(
        version=__version__,
        pipeline=task.pipeline,
        config=task.hash_of(reading.item.relative),
        seed=task.options.seed if result is None or result.seed is None else result.seed,
        state=outcome.state,
        reason=outcome.reason,
        painter=task.painter_name,
        prompt=reading.prompt.prompt,
        prompt_origin=reading.prompt.origin,
        gate=outcome.gate.name if outcome.gate else "",
        forced=outcome.foreign,
        drew=", ".join([*task.drew, *(steers_of(result.plan.guidance) if result else ())]),
        size=[] if reading.image is None else list(reading.image.rgb.size),
        source=reading.digest,
        passes=(reading.record.passes if reading.record else 0) + 1,
        **_found(outcome),
    )


def _found(outcome: Outcome) -> dict[str, Any]:
    """Return the fields of a record that judges, plan and guard decide."""
    result, gate = outcome.result, outcome.gate
    if result is None:
        judged = {gate.value: round(gate.score, 6)} if gate and gate.passed and gate.score is not None else {}
        return {"kept": "original", "guarded": False, "before": judged, "after": judged}
    planned = result.to_dict()
    return {
        "kept": result.decision.kept,
        "guarded": bool(result.decision.guarded),
        "before": numbers(result.before.values),
        "after": numbers(result.after.values),
        "area": round(result.plan.area, 4),
        "moved": round(result.moved, 4),
        "regions": [{name: part[name] for name in ("box", "kind", "strength")} for part in planned["regions"]],
        "missing": [part["phrase"] for part in planned["missing"]],
    }


def _decided(found: Mapping[str, Any]) -> Row:
    """Return these fields as a journal has them."""
    return {
        "decision": {"kept": found["kept"], "guarded": found["guarded"]},
        "scores": {"before": dict(found["before"]), "after": dict(found["after"])},
    }


def row_of(outcome: Outcome, fault: str, writing: float, seed: int) -> Row:
    """Return what the journal says of one image."""
    reading, result, gate = outcome.reading, outcome.result, outcome.gate
    state, prompt, found = "failed" if fault else outcome.state, reading.prompt, _found(outcome)
    spent = {"read": reading.seconds, "refine": outcome.seconds, "write": writing}
    seconds: dict[str, Any] = {name: round(value, 4) for name, value in spent.items()}
    row: Row = {
        "kind": "image",
        "file": reading.item.relative,
        "source": reading.item.where,
        "state": state,
        "reason": fault or outcome.reason,
        "input": {"sha256": reading.digest} | dict(reading.state),
        "prompt": prompt.prompt[:2000],
        "prompt_origin": prompt.origin,
        "seconds": seconds,
    }
    told = {
        "size": list(reading.image.rgb.size) if reading.image is not None else [],
        "prompt_unsure": prompt.unsure,
        "prompt_set_aside": prompt.set_aside,
        "notes": list(outcome.notes),
        "unexpected": outcome.unexpected,
        "foreign": outcome.foreign,
        "output": "" if state == "failed" else reading.item.name,
    }
    row |= {name: value for name, value in told.items() if value}
    if reading.known and reading.record is not None:
        row["scores"] = {"before": dict(reading.record.before), "after": dict(reading.record.after)}
    if gate is not None and not fault:
        score = None if gate.score is None else round(gate.score, 6)
        row["gate"] = {"value": gate.value, "bound": gate.bound, "score": score, "passed": gate.passed}
        row |= _decided(found) if gate.passed else {}
    if result is not None and not fault:
        row |= {"seed": seed, **_decided(found), "noise": numbers(result.decision.noise)}
        row |= {name: found[name] for name in ("area", "moved", "regions", "missing")}
        if result.plan.token_weights:
            row["asked"] = {"text": result.plan.prompt, "weights": [list(part) for part in result.plan.token_weights]}
        seconds["stages"] = {name: round(value, 4) for name, value in result.timings.items()}
    return row


def own_row(item: WorkItem, config_hash: str) -> Row | None:
    """Return the row of a result that an equal run made of this very input; None for any other file there."""
    try:
        record = read_record(read_embedded(read_bytes(item.output)))
        if record is None or record.config != config_hash or record.source != content_hash(item.read()):
            return None
    except (ImageError, OSError):
        return None
    facts = asdict(record)
    same = ["state", "reason", "prompt_origin", "size"]
    same += ["seed", "area", "moved", "regions", "missing"] if record.regions is not None else []
    return {
        "kind": "image",
        "file": item.relative,
        "source": item.where,
        "input": {"sha256": record.source} | item.state(),
        "prompt": record.prompt[:2000],
        "output": item.name,
        "notes": ["found in OUT with its record; the journal did not tell of it."],
        **_decided(facts),
        **{name: facts[name] for name in same},
    }


def full_disk(error: OSError) -> DiskFull:
    """Return why the run has to stop."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk is full: {error.strerror}.")
    return DiskFull(f"Results cannot be written: {error.strerror or error}.")
