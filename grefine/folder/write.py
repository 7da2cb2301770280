"""From outcomes to files and rows: all files of a batch are staged first, then named, so that none is half there."""

import errno
import math
import os
import struct
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from grefine import __version__
from grefine.errors import GRefineError
from grefine.folder.task import Outcome, Task
from grefine.indicators.draw import edge_of, fitting, overlay, png
from grefine.io import atomic
from grefine.io.images import CONTAINERS, SUFFIXES, encode_image
from grefine.io.journal import Row
from grefine.io.picture import printable
from grefine.io.record import RefineRecord, attach_record
from grefine.io.run_files import layer_path
from grefine.refine.guidance import steers_of
from grefine.report.media import fitted, layers_of
from grefine.types import RefineResult

SMALLEST, LARGEST = 256, 768
"""Sides of one picture in a panel: small ones grow by a whole factor, large ones shrink."""
_PAPER, _INK, _FAINT = (250, 250, 248), (30, 30, 34), (110, 110, 116)
_GAP = 10
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
    parts = (before, Image.fromarray(bad), after)
    shown = [fitted(picture, SMALLEST, LARGEST, Image.Resampling.BOX) for picture in parts]
    width, height = shown[0].size
    size = max(12, min(18, width // 22))
    font = ImageFont.load_default(size)
    painted = result.decision.kept in ("repainted", "both")
    middle = f"bad places, {'repainted ' * painted}inside the line ({result.plan.area:.0%})"
    captions = [f"before   {_scores(result.before.values)}", middle, f"after   {_scores(result.after.values)}"]
    total = width * 3 + _GAP * 4
    lines = _wrap(prompt, font, total - 2 * _GAP, 2) + _wrap(result.decision.reason, font, total - 2 * _GAP, 3)
    line = size + 6
    panel = Image.new("RGB", (total, height + 2 * _GAP + line * (1 + len(lines)) + _GAP), _PAPER)
    draw = ImageDraw.Draw(panel)
    for index, (picture, caption) in enumerate(zip(shown, captions, strict=True)):
        left = _GAP + index * (width + _GAP)
        panel.paste(picture, (left, _GAP))
        draw.text((left, height + _GAP + 4), fitting(caption, font, width), fill=_INK, font=font)
    for index, text in enumerate(lines):
        draw.text((_GAP, height + _GAP + 4 + line * (index + 1)), text, fill=_FAINT, font=font)
    return png(panel)


def _scores(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {values[name]:.2f}" for name in ("p", "a") if name in values)


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, most: int) -> list[str]:
    letters = max(1, int(width / font.getlength("n")))
    lines = textwrap.wrap(text[:600], letters, max_lines=most, placeholder=" …")
    return [fitting(line, font, width) for line in lines]


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
        source=reading.digest,
        passes=(reading.record.passes if reading.record else 0) + 1,
        **{name: value for name, value in _found(outcome).items() if name not in ("regions", "missing")},
    )


def _found(outcome: Outcome) -> dict[str, Any]:
    """Return what judges, plan and guard decided, for the record and the row."""
    result, gate = outcome.result, outcome.gate
    if result is None:
        judged = {gate.value: round(gate.score, 6)} if gate and gate.passed and gate.score is not None else {}
        return {"kept": "original", "guarded": False, "before": judged, "after": judged}
    planned = result.to_dict()
    return {
        "kept": result.decision.kept,
        "guarded": bool(result.decision.guarded),
        "before": _finite(result.before.values),
        "after": _finite(result.after.values),
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
        row |= {"seed": seed, **_decided(found), "noise": _finite(result.decision.noise)}
        row |= {name: found[name] for name in ("area", "moved", "regions", "missing")}
        if result.plan.token_weights:
            row["asked"] = {"text": result.plan.prompt, "weights": [list(part) for part in result.plan.token_weights]}
        seconds["stages"] = {name: round(value, 4) for name, value in result.timings.items()}
    return row


def _finite(values: Any) -> dict[str, float]:
    return {str(k): round(float(v), 6) for k, v in values.items() if math.isfinite(v)}


def full_disk(error: OSError) -> DiskFull:
    """Return why the run has to stop."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk is full: {error.strerror}.")
    return DiskFull(f"Results cannot be written: {error.strerror or error}.")
