"""What an evaluation found: records, and what paired gains amount to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from grefine.evaluate.statistics import ALPHA, GainSummary
from grefine.types import Axis, MetricSpec

Level = Literal["better", "no change", "unclear", "worse", "no evidence"]


@dataclass(frozen=True, slots=True)
class MetricResult:
    """What one metric says about one method."""

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
    """Why it does not count, and what it could not score."""
    unfit: bool = False
    """Changes that nobody sees move it by more than a quarter of its range, so it cannot judge here."""
    spread: float = 1.0
    """The unit for putting metrics side by side: standard deviation of the inputs' scores."""
    input_range: tuple[float, float] | None = None
    """10th and 90th percentile of the inputs' scores."""

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
        """Return one cell of the four-cell verdict."""
        return next(s for s in self.strata if s.axis == axis and s.stratum == stratum)


def level_of(gain: GainSummary, p: float | None = None) -> Level:
    """Return what paired gains amount to.

    "better" and "worse" need the test of the mean over what moved beyond the noise, the interval on the same side of
    zero, and more wins than losses (or the reverse); "no change" needs every image inside the scorer's own noise, or
    the whole interval; everything else is "unclear".

    Args:
        gain: the gains.
        p: of the test, where it was corrected for others; by default the gains' own.
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
