"""Findings in plain words."""

from __future__ import annotations

from typing import Literal

from grefine.evaluate.findings import FEW_IMAGES, Analysis, AxisResult, Level

Verdict = Literal["better", "no change", "unclear", "worse", "mixed", "no evidence"]

CELL_WORDS: dict[Level, str] = {
    "better": "improves",
    "no change": "keeps",
    "unclear": "unclear",
    "worse": "harms",
    "no evidence": "no evidence",
}
"""The four levels of the paper's first table, as verbs, and the honest fifth for "nobody judged this"."""

_HEADLINES: dict[Verdict, str] = {
    "better": "It helped",
    "worse": "It made things worse",
    "no change": "No change",
    "mixed": "It helped in one way and harmed in another",
    "unclear": "These images cannot tell",
    "no evidence": "Nothing here may judge",
}


def verdict_of(analysis: Analysis) -> Verdict:
    """Return the overall verdict over both axes; an axis that nobody judged does not count."""
    levels = {axis.level for axis in analysis.axes} - {"no evidence"}
    if not levels:
        return "no evidence"
    if {"better", "worse"} <= levels:
        return "mixed"
    for level in ("better", "worse", "unclear"):
        if level in levels:
            return level
    return "no change"


def headline(verdict: Verdict) -> str:
    """Return the verdict as the few words that stand at the top of a report."""
    return _HEADLINES[verdict]


def sentences(analysis: Analysis) -> list[str]:
    """Return the verdict's grounds, one sentence each."""
    said = [axis_sentence(axis, analysis.n) for axis in analysis.axes]
    worse, metrics = analysis.negative_optimisations
    if metrics:
        s = "s" if metrics > 1 else ""
        said.append(f"Negative optimisation: {worse} of {metrics} metric mean{s} fell below the original's.")
    loop = [m.metric for m in analysis.metrics if m.spec.used_in_loop]
    if loop:
        said.append(f"Not counted, because they steered the refinement: {', '.join(loop)}.")
    if 0 < analysis.n < FEW_IMAGES:
        images = "one image" if analysis.n == 1 else f"{analysis.n} images"
        said.append(f"Only {images}: too few for a statistical statement; give at least {FEW_IMAGES}.")
    return said


def axis_sentence(axis: AxisResult, images: int) -> str:
    """Return what happened on one axis."""
    name = "Perceptual quality" if axis.axis == "perceptual" else "Alignment with the prompt"
    gain = axis.gain
    if gain.n == 0:
        return f"{name}: not judged; no metric of this axis ran that did not steer the refinement."
    judges = ", ".join(axis.metrics)
    of = "" if gain.n == images else f" (of {images})"
    counts = (
        f"{gain.win} of {gain.n} images{of} gained, {gain.tie} stayed within the judges' own noise, {gain.loss} lost"
    )
    start = {
        "better": f"{name} rose",
        "worse": f"{name} fell",
        "no change": f"{name} did not change",
        "unclear": f"{name}: no clear direction",
    }[axis.level]
    return f"{start}: {counts} (judged by {judges})."
