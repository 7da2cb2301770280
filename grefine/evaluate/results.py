"""What an evaluation or a comparison found: records, levels, and the verdict in plain words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from grefine.evaluate.pairs import Pairing, Prompting
from grefine.evaluate.statistics import ALPHA, FEW_IMAGES, GainSummary
from grefine.evaluate.tables import AFTER, ScoreRow, Values, WideTable, values_of, wide_table
from grefine.types import Axis, MetricSpec

Level = Literal["better", "no change", "unclear", "worse", "no evidence"]


@dataclass(frozen=True, slots=True)
class MetricResult:
    metric: str
    spec: MetricSpec
    before: float
    """Mean over the images that have a number on both sides."""
    after: float
    gain: GainSummary
    """Oriented: positive is better, whatever the metric's direction."""
    p_holm: float
    """Wilcoxon's p after Holm over the metrics that count as evidence; NaN for the others."""
    evidence: bool
    note: str = ""
    """Why it does not count."""
    unfit: bool = False
    """Changes that nobody sees move it by more than a quarter of its range, so it cannot judge here."""
    spread: float = 1.0
    """The unit for putting metrics side by side: standard deviation of the inputs' scores."""
    input_range: tuple[float, float] | None = None
    """10th and 90th percentile of the inputs' scores."""
    gains: Mapping[str, float] = field(default_factory=dict)
    """Image → gain, where both sides have a number."""

    @property
    def delta(self) -> float:
        """Mean change in the metric's own direction of counting."""
        return self.after - self.before

    @property
    def negative(self) -> bool:
        """True for a negative optimisation: the mean is worse than the original's."""
        return self.gain.mean < 0


@dataclass(frozen=True, slots=True)
class AxisResult:
    """What all evidence of one axis says together, in standard deviations of the input's scores."""

    axis: Axis
    level: Level
    metrics: tuple[str, ...]
    gain: GainSummary
    stratum: str = "all"
    """"all", or the third of the inputs that it is about: "low", "mid", "high"."""
    stratified_by: str = ""
    per_image: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything that the long table says about one method against its input."""

    method: str
    baseline: str
    n: int
    metrics: tuple[MetricResult, ...]
    axes: tuple[AxisResult, ...]
    strata: tuple[AxisResult, ...]
    """Per axis: low, mid and high thirds of the inputs. Low and high make the four-cell verdict."""
    groups: Mapping[str, tuple[AxisResult, ...]] = field(default_factory=dict)
    group_means: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    """Group → metric → (mean before, mean after), for the radar."""
    notes: tuple[str, ...] = ()

    @property
    def negative_optimisations(self) -> tuple[int, int]:
        """How many metrics' means are worse than the original's, and of how many; those of the loop are left out."""
        counted = [m for m in self.metrics if m.evidence]
        return sum(m.negative for m in counted), len(counted)

    def cell(self, axis: Axis, stratum: str) -> AxisResult:
        return next(s for s in self.strata if s.axis == axis and s.stratum == stratum)


def level_of(gain: GainSummary, p: float | None = None) -> Level:
    """Return what paired gains amount to.

    "better" and "worse" need the test of the mean over what moved beyond the noise, the interval on the same side of
    zero, and more wins than losses (or the reverse); "no change" needs every image inside the scorer's own noise, or
    the whole interval; everything else is "unclear".
    """
    if gain.n == 0:
        return "no evidence"
    if gain.win == 0 and gain.loss == 0:
        return "no change"
    shown = (gain.p_visible if p is None else p) <= ALPHA
    if shown and gain.interval.low > 0 and gain.win > gain.loss:
        return "better"
    if shown and gain.interval.high < 0 and gain.loss > gain.win:
        return "worse"
    if -gain.band <= gain.interval.low and gain.interval.high <= gain.band:
        return "no change"
    return "unclear"


Verdict = Literal["better", "no change", "unclear", "worse", "mixed", "no evidence"]
AXIS_NAMES: dict[Axis, str] = {"perceptual": "Perceptual quality", "alignment": "Alignment with the prompt"}

_SAID: dict[Verdict, tuple[str, str, str]] = {
    "better": ("gain", "improves", "It helped"),
    "worse": ("loss", "harms", "It made things worse"),
    "mixed": ("mixed", "", "It helped in one way and harmed in another"),
    "no change": ("even", "keeps", "No change"),
    "unclear": ("unclear", "unclear", "These images cannot tell"),
    "no evidence": ("none", "no evidence", "Nothing here may judge"),
}
"""Level or verdict → its colour, itself as a verb (the paper's first table, and nobody judged), as a headline."""
TONES, CELL_WORDS, _HEADLINES = ({name: said[place] for name, said in _SAID.items()} for place in range(3))
_FEW: dict[Verdict, str] = {"better": "It helped a few images", "worse": "It made a few images worse"}


def verdict_of(analysis: Analysis) -> Verdict:
    """Return the overall verdict over both axes; an axis that nobody judged does not count."""
    levels = {"no evidence", *(axis.level for axis in analysis.axes)}
    if {"better", "worse"} <= levels:
        return "mixed"
    order: tuple[Level, ...] = ("better", "worse", "unclear", "no change", "no evidence")
    return next(level for level in order if level in levels)


def headline(analysis: Analysis) -> str:
    """Return the verdict in a few words, which say so where most of the touched images stayed within the noise."""
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


ORIGINAL = "original"
"""The inputs' name among the methods of a comparison."""


@dataclass(frozen=True)
class Judged:
    """What judges said of the same images at several stages, and what follows from it."""

    baseline: str
    """The stage that the others are held against."""
    files: Mapping[str, Mapping[str, Path]]
    """Stage → image → file."""
    judges: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    specs: Mapping[str, MetricSpec]
    analyses: Mapping[str, Analysis]
    """Stage → findings against the baseline."""
    prompting: Prompting
    unavailable: Mapping[str, str]
    """Metric → why it did not run."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Image, "method: image" or method → why there is nothing to compare."""
    notes: tuple[str, ...] = ()
    forced: str = ""
    """What is to be known of pictures that were judged though the judges do not know their world."""
    computed: int = 0
    reused: int = 0

    @cached_property
    def values(self) -> Values:
        return values_of(self.rows)

    @cached_property
    def table(self) -> WideTable:
        """Means by stage and metric, over the images for which every stage has a number."""
        means: dict[str, dict[str, float]] = {stage: {} for stage in self.files}
        counted: set[str] = set()
        for metric, stages in self.values.items():
            if not self.specs[metric].needs_reference:
                finite = [{i for i, v in stages.get(stage, {}).items() if math.isfinite(v)} for stage in means]
                shared = sorted(set.intersection(*finite))
                counted.update(shared)
                for stage in means:
                    means[stage][metric] = sum(stages[stage][i] for i in shared) / len(shared) if shared else math.nan
        shown = means[self.baseline]
        return wide_table(
            means,
            baseline=self.baseline,
            directions={metric: self.specs[metric].direction for metric in shown},
            in_loop=[metric for metric in shown if self.specs[metric].used_in_loop],
            n=len(counted),
        )


@dataclass(frozen=True)
class Evaluation(Judged):
    """What an evaluation of two folders found."""

    pairing: Pairing = Pairing()
    out: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """What the page says of the run."""

    @property
    def analysis(self) -> Analysis:
        """The findings about the images after."""
        return self.analyses[AFTER]

    @property
    def verdict(self) -> Verdict:
        """ "better", "worse", "no change", "mixed", "unclear" or "no evidence"."""
        return verdict_of(self.analysis)

    @property
    def sentences(self) -> list[str]:
        """The verdict in plain words, then its grounds."""
        said = [f"{headline(self.analysis)}.", *sentences(self.analysis)]
        return [f"{headline(self.analysis)} (forced).", self.forced, *said[1:]] if self.forced else said


@dataclass(frozen=True)
class Comparison(Judged):
    """What a comparison of methods found, each against the original."""

    @property
    def negative_optimisations(self) -> dict[str, int]:
        """Method → number of metrics of evidence whose mean fell below the original's, as the paper counts."""
        named = [metric in self.evidence for metric in self.table.metrics]
        return {
            method: sum(cell.worse for cell, counted in zip(cells, named, strict=True) if counted)
            for method, cells in self.table.rows
            if method != ORIGINAL
        }

    @property
    def evidence(self) -> list[str]:
        """The metrics that may judge; they are the same for every method."""
        return [m.metric for found in list(self.analyses.values())[:1] for m in found.metrics if m.evidence]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Method → verdict."""
        return {method: verdict_of(found) for method, found in self.analyses.items()}
