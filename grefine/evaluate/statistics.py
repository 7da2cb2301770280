"""Statistics of paired gains: the same image before and after, positive = better.

Everything takes plain numbers and returns plain numbers; nothing here knows about metrics, files or images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

RESAMPLES = 9999
SEED = 20240428
"""Fixed, so that the same scores always give the same interval."""

_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of a mean; `low` and `high` are NaN where one value says nothing about spread."""

    low: float
    high: float
    level: float = 0.95
    method: str = "BCa"
    """"BCa", "exact" for values that are all equal, "none" for fewer than two values."""

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class GainSummary:
    """What the paired gains of one metric say."""

    n: int
    mean: float
    interval: Interval
    median: float
    win: int
    tie: int
    loss: int
    band: float
    """Gains of at most this size are ties: the scorer's own noise."""
    p: float
    """Wilcoxon signed-rank with Pratt's treatment of zeros, two-sided; 1.0 when every gain is zero."""
    effect: float
    """Matched-pairs rank-biserial correlation, -1..1; 0.0 when every gain is zero."""


def summarise(gains: ArrayLike, band: float = 0.0, *, level: float = 0.95, seed: int = SEED) -> GainSummary:
    """Summarise the gains of one metric; values that are not finite must have been left out by the caller."""
    values = np.asarray(gains, dtype=float).ravel()
    if not np.isfinite(values).all():
        raise ValueError("Gains must be finite; leave out what a metric could not score.")
    if values.size == 0:
        nothing = Interval(math.nan, math.nan, level, "none")
        return GainSummary(0, math.nan, nothing, math.nan, 0, 0, 0, band, math.nan, math.nan)
    win, loss = int((values > band).sum()), int((values < -band).sum())
    return GainSummary(
        n=values.size,
        mean=float(values.mean()),
        interval=bca_mean(values, level=level, seed=seed),
        median=float(np.median(values)),
        win=win,
        tie=values.size - win - loss,
        loss=loss,
        band=band,
        p=wilcoxon_pratt(values),
        effect=rank_biserial(values),
    )


def bca_mean(values: ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """Return the bias-corrected and accelerated bootstrap interval of the mean (Efron 1987).

    Its percentiles are widened as Hesterberg (2015) does for small samples (a t quantile and sqrt(n / (n - 1)) in
    place of the normal one): plain BCa covers about 92 % where it promises 95 % at 20 images; at 200 they agree.
    The mean's jackknife has a closed form, so cost is `resamples * n` and memory is bounded.
    """
    x = np.asarray(values, dtype=float).ravel()
    if x.size < 2:
        return Interval(math.nan, math.nan, level, "none")
    if np.ptp(x) == 0:
        return Interval(float(x[0]), float(x[0]), level, "exact")
    from scipy.special import ndtr, ndtri, stdtrit

    means = np.sort(_resampled_means(x, resamples, seed))
    below = (np.count_nonzero(means < x.mean()) + np.count_nonzero(means == x.mean()) / 2) / resamples
    bias = ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    influence = x.mean() - x
    acceleration = -(influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    z = stdtrit(x.size - 1, [(1 - level) / 2, (1 + level) / 2]) * math.sqrt(x.size / (x.size - 1))
    adjusted = ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
    low, high = np.quantile(means, adjusted)
    return Interval(float(low), float(high), level)


def _resampled_means(x: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // x.size)
    parts = [
        x[rng.integers(0, x.size, size=(min(step, resamples - start), x.size))].mean(axis=1)
        for start in range(0, resamples, step)
    ]
    return np.concatenate(parts)


def wilcoxon_pratt(gains: ArrayLike) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test, zeros ranked and then dropped (Pratt 1959).

    Untouched images give exact zeros, so the treatment of zeros matters here.
    """
    values = np.asarray(gains, dtype=float)
    if values.size == 0:
        return math.nan
    if not values.any():
        return 1.0
    from scipy.stats import wilcoxon

    exact = values.size <= 50 and values.all() and np.unique(np.abs(values)).size == values.size
    return float(wilcoxon(values, zero_method="pratt", method="exact" if exact else "asymptotic").pvalue)


def rank_biserial(gains: ArrayLike) -> float:
    """Return the matched-pairs rank-biserial correlation (R+ - R-) / (R+ + R-), zeros ranked as Pratt does."""
    values = np.asarray(gains, dtype=float)
    if values.size == 0:
        return math.nan
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(values))
    signed = float((ranks * np.sign(values)).sum())
    total = float(ranks[values != 0].sum())
    return signed / total if total else 0.0


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p values for many tests (Holm 1979); NaN stays NaN and does not count as a test."""
    tested = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    adjusted: dict[str, float] = {}
    running = 0.0
    for rank, (p, name) in enumerate(tested):
        running = max(running, min(1.0, p * (len(tested) - rank)))
        adjusted[name] = running
    return {name: adjusted.get(name, math.nan) for name in p_values}


def terciles(values: Sequence[float]) -> list[str]:
    """Name each value's tercile "low", "mid" or "high" by rank; equal values always share a tercile."""
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        return []
    from scipy.stats import rankdata

    share = (rankdata(x, method="average") - 0.5) / x.size
    return ["low" if s < 1 / 3 else "high" if s >= 2 / 3 else "mid" for s in share]


def noise_band(changes: ArrayLike) -> float:
    """Return the tie band: the 95th percentile of a scorer's change where nothing visible changed."""
    values = np.abs(np.asarray(changes, dtype=float))
    values = values[np.isfinite(values)]
    return float(np.quantile(values, 0.95)) if values.size else 0.0
