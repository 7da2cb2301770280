"""What the window shows of an open picture: layers over it, and the rows of its tables."""

import io
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from grefine.folder.task import Outcome
from grefine.report.media import layer_png
from grefine.types import AlignmentMap, RefineResult, RepairPlan

LAYERS = {"what looks bad": "quality", "what is missing": "alignment", "what is repainted": "mask"}
SIDES = 512, 1024
"""Pictures are shown no smaller and no larger than this."""
STATES = {"refined": "Refined", "kept": "Original kept", "untouched": "Nothing changed", "beyond": "Beyond repair"}
_SEEN = {None: "seen", "noun": "missing", "attribute": "not as asked"}


def enlarged(picture: Image.Image) -> Image.Image:
    """Return a picture in the size in which it is shown and painted on."""
    least, most = SIDES
    longest = max(picture.size)
    if longest < least:
        times = -(-least // longest)
        return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    scale = min(1.0, most / longest)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if scale == 1.0 else picture.resize(size, Image.Resampling.LANCZOS)


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
