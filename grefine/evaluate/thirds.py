"""Thirds of the inputs by quality: did bad images become better, and were good ones left alone?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grefine.evaluate.long_table import Values
from grefine.evaluate.statistics import terciles
from grefine.types import MetricSpec

INPUT_QUALITY = {"perceptual": ("pq_map", "pq", "p"), "alignment": ("aq_map", "aq", "a")}
"""Columns that hold p and a of the inputs, in the order in which they are looked for."""


@dataclass(frozen=True, slots=True)
class Strata:
    """Which third of the inputs an image belongs to."""

    source: str
    """What the inputs were sorted by, in words."""
    thirds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Metric → image → "low", "mid", "high". The key "" serves every metric."""
    note: str = ""

    def third(self, metric: str, image: str) -> str | None:
        """Return the third of `image` for judging by `metric`."""
        return self.thirds.get(metric, self.thirds.get("", {})).get(image)


def strata_of(
    axis: str, values: Values, specs: Mapping[str, MetricSpec], evidence: Sequence[str], baseline: str
) -> Strata:
    """Sort the inputs into thirds by p (perceptual) or a (alignment), else by the axis's other metrics.

    Sorting by the very metric that then judges would show gains at the bottom and losses at the top where there are
    none (regression to the mean), so each metric is left out of its own strata. With a single metric that is not
    possible, and a note says so.
    """
    for name in INPUT_QUALITY[axis]:
        known = _finite(values.get(name, {}).get(baseline, {}))
        if known:
            return Strata(name, {"": _thirds(known)})
    scores = {m: _oriented(_finite(values[m].get(baseline, {})), specs[m]) for m in evidence}
    if not scores:
        return Strata("")
    if len(scores) == 1:
        (only,) = scores
        note = (
            f"The {axis} thirds are sorted by {only}, which also judges them: part of a gain in the low third and of "
            "a loss in the high third is regression to the mean. Give a pipeline (p and a sort the inputs then) or "
            "a second metric."
        )
        return Strata(only, {"": _thirds(scores[only])}, note)
    thirds = {m: _thirds(_mean_rank({k: v for k, v in scores.items() if k != m})) for m in scores}
    return Strata("the other metrics' scores of the input", thirds)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {image: value for image, value in values.items() if math.isfinite(value)}


def _oriented(values: Mapping[str, float], spec: MetricSpec) -> dict[str, float]:
    return {image: -value if spec.direction == "lower" else value for image, value in values.items()}


def _thirds(values: Mapping[str, float]) -> dict[str, str]:
    return dict(zip(values, terciles(list(values.values())), strict=True))


def _mean_rank(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    from scipy.stats import rankdata

    ranks: dict[str, list[float]] = {}
    for values in scores.values():
        for image, rank in zip(values, rankdata(list(values.values())) / max(1, len(values)), strict=True):
            ranks.setdefault(image, []).append(float(rank))
    return {image: sum(found) / len(found) for image, found in ranks.items()}
