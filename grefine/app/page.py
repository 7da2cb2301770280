"""What each button changes: handlers that take a sitting and return new values by part of the page; what they show."""

import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from grefine.app import desk
from grefine.app.desk import Sitting
from grefine.errors import ConfigError, GRefineError
from grefine.folder.task import Outcome
from grefine.report.media import layer_png
from grefine.types import AlignmentMap, RefineResult, RepairPlan

Values = dict[str, Any]
PICTURE = ("listed", "prompt", "note", "editor", "regions", "phrases")
RESULT = ("slider", "told", "numbers", "saved", "files")
SHOWN = 100
"""Names that the list shows at once."""
LAYERS = {"what looks bad": "quality", "what is missing": "alignment", "what is repainted": "mask"}
STATES = {"refined": "Refined", "kept": "Original kept", "untouched": "Nothing changed", "beyond": "Beyond repair"}
_SEEN = {None: "seen", "noun": "missing", "attribute": "not as asked"}


def open_named(sitting: Sitting, name: str, layers: list[str]) -> Values:
    """Open a picture of the list."""
    desk.look(sitting, name)
    return _opened(sitting, layers)


def open_next(sitting: Sitting, name: str | None, layers: list[str], step: int = 1) -> Values:
    """Open the picture after the named one, the first after the last; with step -1 the one before it."""
    every = [*sitting.desk.items, *sitting.dropped]
    if not every:
        raise ConfigError("There is no picture: drop one.")
    return open_named(sitting, every[(every.index(name) + step) % len(every) if name in every else 0], layers)


def open_dropped(sitting: Sitting, file: str | None, layers: list[str]) -> Values:
    """Open a picture from elsewhere."""
    if not file:
        return {}
    name = desk.drop(sitting, file)
    try:
        return open_named(sitting, name, layers)
    except GRefineError:
        del sitting.dropped[name]
        raise


def plan_anew(sitting: Sitting, text: str, layers: list[str]) -> Values:
    """Plan the open picture again, for the prompt in the box."""
    if sitting.reading is None:
        raise ConfigError("Open a picture first.")
    found = sitting.reading.prompt
    typed = text if text != found.prompt or found.origin == "given for all" else None
    desk.look(sitting, desk.name_of(sitting, sitting.reading.item), typed, anew=True)
    return _opened(sitting, layers)


def redraw(sitting: Sitting, rows: list[list[Any]], strokes: Any, layers: list[str]) -> Values:
    """Show the table's regions and the chosen layers; strokes stay."""
    if sitting.plan is None:
        return {}
    sitting.plan = desk.change(sitting.plan, rows)
    return {"editor": _painted(sitting, layers, strokes)}


def run(
    sitting: Sitting,
    rows: list[list[Any]],
    strokes: Any,
    layers: list[str],
    on_step: Callable[[int, int, str], None] = lambda *told: None,
) -> Values:
    """Follow the plan as table and strokes have it, and show what became of the picture."""
    if sitting.plan is None:
        raise ConfigError("Open a picture first.")
    layer = strokes["layers"][0] if strokes and strokes["layers"] else None
    size = sitting.plan.mask.shape[1], sitting.plan.mask.shape[0]
    sitting.plan = desk.change(sitting.plan, rows, *(desk.strokes_of(layer, size) if layer else ()))
    shown: Values = dict.fromkeys(RESULT) | {"editor": _painted(sitting, layers)}
    try:
        outcome = desk.run(sitting, on_step)
    except desk.Stopped as stopped:
        return shown | {"told": str(stopped)}
    image = outcome.reading.image
    if image is not None:
        shown["slider"] = enlarged(image.rgb), enlarged(outcome.image or image.rgb)
    listed = _choices(sitting, desk.name_of(sitting, outcome.reading.item))
    return shown | {"told": verdict(outcome), "numbers": number_table(outcome), "listed": listed}


def keep(sitting: Sitting, name: str | None) -> Values:
    """Save the result."""
    picture, plan, mask = desk.keep(sitting)
    text = f"Saved `{picture}` with its record, and the plan `{plan}`."
    return {"saved": text, "files": [str(path) for path in (picture, plan, mask)], "listed": _choices(sitting, name)}


def throw_away(sitting: Sitting, name: str | None) -> Values:
    """Forget the result; the plan stays as it is, to be changed and run again."""
    if sitting.outcome is not None:
        sitting.states[desk.name_of(sitting, sitting.outcome.reading.item)] = "thrown away"
    sitting.outcome = None
    return dict.fromkeys(RESULT) | {"listed": _choices(sitting, name)}


def begin(sitting: Sitting) -> Values:
    """Make ready for a run."""
    sitting.stop.clear()
    return {"told": "Waiting for the pipeline."}


def stop(sitting: Sitting) -> Values:
    """Ask the run to end after its step."""
    sitting.stop.set()
    return {}


def still_open(sitting: Sitting) -> Values:
    """Return the list as it is when something was refused: at the picture that is open."""
    return _choices(sitting, desk.name_of(sitting, sitting.reading.item) if sitting.reading else None)


def _choices(sitting: Sitting, name: str | None) -> Values:
    """Return the list around a picture, each with its state."""
    every = [*sitting.desk.items, *sitting.dropped]
    first = max(0, min((every.index(name) if name in every else 0) - SHOWN // 2, len(every) - SHOWN))
    part = every[first : first + SHOWN]
    states = {one: desk.state_of(sitting, one) for one in part}
    choices = [(f"{one}: {STATES.get(state, state).lower()}" if state else one, one) for one, state in states.items()]
    where = f" {first + 1:,} to {first + len(part):,} of {len(every):,}" if len(part) < len(every) else ""
    return {"choices": choices, "value": name, "label": f"Pictures{where}", "visible": bool(every)}


def _painted(sitting: Sitting, layers: list[str], strokes: Any = None) -> Values | None:
    """Return what the editor holds: the picture under its layers, and the strokes over them."""
    reading, found, plan = sitting.reading, sitting.found, sitting.plan
    if reading is None or reading.image is None or found is None or plan is None:
        return None
    seen = surface(reading.image.rgb, found, plan, layers)
    return {"background": seen, "layers": list(strokes["layers"]) if strokes else [], "composite": None}


def _opened(sitting: Sitting, layers: list[str]) -> Values:
    """Return everything that the page shows of the picture that was just opened."""
    reading, found, plan = sitting.reading, sitting.found, sitting.plan
    assert reading is not None and found is not None and plan is not None  # noqa: PT018 - for the type check
    said = [f"Prompt: {reading.prompt.origin}.", reading.prompt.unsure, sitting.note]
    said += [plan.note, found.alignment.note, *found.warnings]
    return dict.fromkeys(RESULT) | {
        "listed": _choices(sitting, desk.name_of(sitting, reading.item)),
        "prompt": reading.prompt.prompt,
        "note": " ".join(filter(None, said)),
        "editor": _painted(sitting, layers),
        "regions": region_rows(plan),
        "phrases": phrase_table(found.alignment),
    }


def enlarged(picture: Image.Image) -> Image.Image:
    """Return a picture in the size in which it is shown and painted on; small ones grow by a whole factor."""
    longest = max(picture.size)
    scale = min(1.0, 1024 / longest) if longest > 512 else -(-512 // longest)
    size = (round(picture.width * scale) or 1, round(picture.height * scale) or 1)
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def active_mask(plan: RepairPlan) -> np.ndarray:
    """Return what a plan repaints: its mask without the regions that are off."""
    mask = plan.mask.copy()
    for region in plan.regions:
        left, top, right, bottom = region.box
        if not region.on:
            mask[top:bottom, left:right] &= ~region.mask
    return mask


def surface(picture: Image.Image, found: RefineResult, plan: RepairPlan, layers: Sequence[str]) -> Image.Image:
    """Lay the chosen layers over a picture."""
    seen = enlarged(picture.convert("RGB")).convert("RGBA")
    for name, values in (
        ("quality", found.quality.values),
        ("alignment", found.alignment.values),
        ("mask", active_mask(plan)),
    ):
        if name in [LAYERS.get(layer) for layer in layers]:
            layer = Image.open(io.BytesIO(layer_png(name, values)))
            seen.alpha_composite(layer.resize(seen.size, Image.Resampling.BILINEAR))
    return seen.convert("RGB")


def phrase_table(alignment: AlignmentMap) -> str:
    """Return a table of every phrase of a prompt: seen or missing, and where."""
    rows = []
    for one in alignment.phrases:
        judged = one.phrase.drawable and not one.phrase.negated
        place = one.region if one.defect else one.claimed
        rows.append(
            [one.phrase.text, _SEEN[one.defect] if judged else "not judged", "" if place is None else where(place)]
        )
    return _table(("phrase", "", "where"), rows) if rows else "The prompt has no phrases to look for."


def region_rows(plan: RepairPlan) -> list[list[object]]:
    """Return (number, on, words, strength, why and where) of every region."""
    rows: list[list[object]] = []
    for number, region in enumerate(plan.regions, 1):
        field = np.zeros(plan.mask.shape, np.float32)
        left, top, right, bottom = region.box
        field[top:bottom, left:right] = region.mask
        rows.append([number, region.on, region.prompt, round(region.strength, 4), f"{region.reason} ({where(field)})"])
    return rows


def where(field: np.ndarray) -> str:
    """Say in words where a field is high, and how much of the picture that is."""
    high = field > 0.5 * float(field.max())
    if not high.any():
        return "nowhere"
    rows, columns = np.nonzero(high)
    tall = ("top", "middle", "bottom")[int(3 * (rows.mean() + 0.5) / field.shape[0])]
    wide = ("left", "centre", "right")[int(3 * (columns.mean() + 0.5) / field.shape[1])]
    place = "centre" if (tall, wide) == ("middle", "centre") else f"{tall} {wide}"
    return f"{place}, {high.mean():.0%}"


def verdict(outcome: Outcome) -> str:
    """Return what became of a picture, in the guard's words, and what else is to be known."""
    return "\n\n".join([f"**{STATES[outcome.state]}.** {outcome.reason}", *outcome.notes])


def number_table(outcome: Outcome) -> str:
    """Return a table of what the judges said before and after; a change within their noise is said to be none."""
    if outcome.result is None:
        return ""
    before, after = outcome.result.before.values, outcome.result.after.values
    noise = outcome.result.decision.noise
    rows = []
    for name in before:
        gain = after.get(name, before[name]) - before[name]
        told = "none" if abs(gain) <= noise.get(name, 0.0) else f"{gain:+.3f}"
        rows.append([name, f"{before[name]:.3f}", f"{before[name] + gain:.3f}", told])
    return _table(("judge", "before", "after", "change"), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as HTML, whatever its texts hold."""
    lines = ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
