"""Findings in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from grefine.evaluate.results import Analysis, AxisResult, Level
from grefine.evaluate.statistics import FEW_IMAGES
from grefine.types import Axis

Verdict = Literal["better", "no change", "unclear", "worse", "mixed", "no evidence"]
AXIS_NAMES: dict[Axis, str] = {"perceptual": "Perceptual quality", "alignment": "Alignment with the prompt"}

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
_FEW: dict[Verdict, str] = {"better": "It helped a few images", "worse": "It made a few images worse"}


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


def headline(analysis: Analysis) -> str:
    """Return the verdict as the few words that stand at the top of a report.

    Where most of the touched images stayed within the noise, the words say that it is about a few.
    """
    verdict = verdict_of(analysis)
    moved = [axis.gain for axis in analysis.axes if axis.level == verdict]
    many = any(2 * (gain.win if verdict == "better" else gain.loss) > gain.touched for gain in moved)
    return _HEADLINES[verdict] if many or verdict not in _FEW else _FEW[verdict]


def sentences(analysis: Analysis) -> list[str]:
    """Return the verdict's grounds, one sentence each."""
    loop = [m for m in analysis.metrics if m.spec.used_in_loop]
    said = [axis_sentence(axis, analysis.n, [m.metric for m in loop]) for axis in analysis.axes]
    worse, metrics = analysis.negative_optimisations
    if metrics:
        s = "s" if metrics > 1 else ""
        said.append(f"Negative optimisation: {worse} of {metrics} metric mean{s} fell below the input's.")
    if loop:
        names = ", ".join(m.metric for m in loop)
        said.append(f"Shown, but no evidence, because they helped to make these images or sort them: {names}.")
    unfit = [m for m in analysis.metrics if m.unfit]
    if unfit:
        names = ", ".join(f"{m.metric} ({m.gain.band:.2g})" for m in unfit)
        said.append(f"Not counted, because changes that nobody sees move them too far: {names}.")
    touched = max((axis.gain.touched for axis in analysis.axes), default=0)
    if 0 < touched < FEW_IMAGES:
        images = "one image is" if touched == 1 else f"{touched} images are"
        said.append(f"Only {images} not as before: too few for a statement; it takes at least {FEW_IMAGES}.")
    return said


def axis_sentence(axis: AxisResult, images: int, loop: Sequence[str] = ()) -> str:
    """Return what happened on one axis.

    Args:
        axis: the findings.
        images: how many there are.
        loop: metrics that ran and may not judge.
    """
    name = AXIS_NAMES[axis.axis]
    gain = axis.gain
    if gain.n == 0:
        return f"{name}: not judged; no {'other ' if loop else ''}metric of this axis ran."
    judges = ", ".join(axis.metrics)
    of = "" if gain.n == images else f" (of {images})"
    same = gain.n - gain.touched
    untouched = f" ({same} of them exactly the same)" if same else ""
    counts = (
        f"{gain.win} of {gain.n} images{of} gained, {gain.tie} stayed within the judges' own noise{untouched}, "
        f"{gain.loss} lost"
    )
    start = {
        "better": f"{name} rose",
        "worse": f"{name} fell",
        "no change": f"{name} did not change",
        "unclear": f"{name}: no clear direction",
    }[axis.level]
    return f"{start}: {counts} (judged by {judges})."
