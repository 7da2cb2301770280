"""What the window shows of an open picture: layers over it, and the rows of its tables."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from grefine.folder.batch import Outcome
from grefine.report.media import layer_png
from grefine.types import AlignmentMap, RefineResult, RepairPlan

LAYERS = {"what looks bad": "quality", "what is missing": "alignment", "what is repainted": "mask"}
SIDES = 512, 1024
"""Pictures are shown no smaller and no larger than this."""
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


def phrase_rows(alignment: AlignmentMap) -> list[list[str]]:
    """Return (phrase, seen or missing, where) of every phrase of a prompt."""
    rows = []
    for one in alignment.phrases:
        judged = one.phrase.drawable and not one.phrase.negated
        place = one.region if one.defect else one.claimed
        rows.append(
            [one.phrase.text, _SEEN[one.defect] if judged else "not judged", "" if place is None else where(place)]
        )
    return rows


def region_rows(plan: RepairPlan) -> list[list[object]]:
    """Return (on, words, strength, why, where) of every region."""
    rows: list[list[object]] = []
    for region in plan.regions:
        field = np.zeros(plan.mask.shape, np.float32)
        left, top, right, bottom = region.box
        field[top:bottom, left:right] = region.mask
        rows.append([region.on, region.prompt, round(region.strength, 4), region.reason, where(field)])
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
    return "\n\n".join([f"**{outcome.state.capitalize()}.** {outcome.reason}", *outcome.notes])


def number_rows(outcome: Outcome) -> list[list[object]]:
    """Return (judge, before, after, change) by value; a change within the judge's noise is said to be none."""
    if outcome.result is None:
        return []
    before, after = outcome.result.before.values, outcome.result.after.values
    noise = outcome.result.decision.noise
    rows: list[list[object]] = []
    for name in before:
        gain = after.get(name, before[name]) - before[name]
        told = "none" if abs(gain) <= noise.get(name, 0.0) else f"{gain:+.3f}"
        rows.append([name, round(before[name], 3), round(before[name] + gain, 3), told])
    return rows
