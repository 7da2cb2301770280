"""Statistics of paired gains: the same image before and after, positive = better.

Everything takes plain numbers and returns plain numbers; nothing here knows about metrics, files or images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr
from scipy.stats import rankdata, wilcoxon

SUBSETS = 8191
"""Random subsets per interval; up to 13 touched images every subset is taken."""
SEED = 20240428
"""Fixed, so that the same scores always give the same interval."""
ALPHA = 0.05
FEW_IMAGES = 6
"""Fewer touched images than this can show nothing at 5 %: of five, all gain by chance once in sixteen times."""

_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of a mean; `low` and `high` are NaN where there are too few values for one."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class GainSummary:
    """What the paired gains of one metric say."""

    n: int
    touched: int
    """Images whose score changed at all; the others are known to have gained nothing."""
    mean: float
    interval: Interval
    """Of the mean over these images; only what was touched makes it uncertain."""
    median: float
    win: int
    tie: int
    loss: int
    band: float
    """Gains of at most this size are ties: the scorer's own noise."""
    p: float
    """Wilcoxon signed-rank with Pratt's treatment of zeros, two-sided; 1.0 when every gain is zero."""
    p_visible: float
    """Two-sided p of the mean with ties counted as zero, by `mean_test`; what a verdict stands on."""
    effect: float
    """Matched-pairs rank-biserial correlation, -1..1; 0.0 when every gain is zero."""


def summarise(gains: ArrayLike, band: float = 0.0) -> GainSummary:
    """Summarise the gains of one metric; values that are not finite must have been left out by the caller."""
    values = np.asarray(gains, dtype=float).ravel()
    if not np.isfinite(values).all():
        raise ValueError("Gains must be finite; leave out what a metric could not score.")
    if values.size == 0:
        nothing = Interval(math.nan, math.nan)
        return GainSummary(0, 0, math.nan, nothing, math.nan, 0, 0, 0, band, math.nan, math.nan, math.nan)
    win, loss = int((values > band).sum()), int((values < -band).sum())
    return GainSummary(
        n=values.size,
        touched=int(np.count_nonzero(values)),
        mean=float(values.mean()),
        interval=mean_interval(values),
        median=float(np.median(values)),
        win=win,
        tie=values.size - win - loss,
        loss=loss,
        band=band,
        p=wilcoxon_pratt(values),
        p_visible=mean_test(np.where(np.abs(values) > band, values, 0.0)),
        effect=rank_biserial(values),
    )


def subset_means(values: np.ndarray) -> np.ndarray:
    """Return the means of random non-empty subsets of the values, sorted; of all subsets where there are few."""
    if values.size <= SUBSETS.bit_length():
        parts = [(np.arange(1, 2**values.size)[:, None] >> np.arange(values.size)) & 1]
    else:
        rng, step = np.random.default_rng(SEED), _DRAWS_AT_ONCE // values.size + 1
        parts = (_draw(rng, min(step, SUBSETS - start), values.size) for start in range(0, SUBSETS, step))
    return np.sort(np.concatenate([chosen @ values / chosen.sum(1, dtype=int) for chosen in parts]))


def _draw(rng: np.random.Generator, subsets: int, count: int) -> np.ndarray:
    """Draw subsets as rows of zeros and ones; an empty one (once in 2 ** count) becomes the first value alone."""
    bits = np.frombuffer(rng.bytes(subsets * ((count + 7) // 8)), np.uint8).reshape(subsets, -1)
    chosen = np.unpackbits(bits, axis=1, count=count)
    chosen[~chosen.any(1), 0] = 1
    return chosen


def mean_interval(gains: ArrayLike) -> Interval:
    """Return the 95 % interval of the mean gain: the means of subsets of what was touched (Hartigan 1969).

    It holds every mean that the sign-flip test would not reject; below six touched images there is none.
    """
    values = np.asarray(gains, dtype=float).ravel()
    touched = values[values != 0]
    if values.size and not touched.size:
        return Interval(0.0, 0.0)
    if touched.size < FEW_IMAGES:
        return Interval(math.nan, math.nan)
    means = subset_means(touched) * (touched.size / values.size)
    rank = int(ALPHA / 2 * (means.size + 1))
    return Interval(float(means[rank - 1]), float(means[-rank]))


def sign_flip(gains: ArrayLike) -> float:
    """Return the two-sided p of the sign-flip permutation test of the mean; zeros have no sign to flip."""
    values = np.asarray(gains, dtype=float).ravel()
    touched = values[values != 0]
    if not touched.size:
        return 1.0
    # Flipping a subset makes the mean at least as large exactly where the subset's own mean is not positive.
    means = subset_means(touched)
    tail = 1 + min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return min(1.0, 2 * tail / (means.size + 1))


def skewed_t(gains: ArrayLike) -> float:
    """Return the two-sided p of a t test of the mean that allows for a long tail to one side (Hall 1992)."""
    values = np.asarray(gains, dtype=float).ravel()
    x = values[values != 0]
    n, mean = x.size, float(x.mean()) if x.size else 0.0
    spread = float(x.std(ddof=1)) if n > 2 else 0.0
    if spread <= 1e-9 * abs(mean):
        return 1.0 if n < FEW_IMAGES else 0.0
    t = math.sqrt(n) * mean / spread
    skewness = float(((x - mean) ** 3).mean()) / spread**3 * n * n / ((n - 1) * (n - 2))
    lean = skewness / (3 * math.sqrt(n))
    straightened = t + lean * t * t + lean * lean * t**3 / 3 + lean / 2
    return float(2 * stdtr(n - 1, -abs(straightened)))


def mean_test(gains: ArrayLike) -> float:
    """Return the larger p of two tests of the mean gain: few large gains among many losses mislead the first."""
    return max(sign_flip(gains), skewed_t(gains))


def wilcoxon_pratt(gains: ArrayLike) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test, zeros ranked and then dropped (Pratt 1959).

    Up to 13 touched images are tested exactly, ties or not; SciPy does the same, but needs a second for it.
    """
    values = np.asarray(gains, dtype=float)
    if 2 ** np.count_nonzero(values) <= SUBSETS + 1:
        return sign_flip(_signed_ranks(values))
    return float(wilcoxon(values, zero_method="pratt").pvalue)


def _signed_ranks(values: np.ndarray) -> np.ndarray:
    return rankdata(np.abs(values)) * np.sign(values)


def rank_biserial(gains: ArrayLike) -> float:
    """Return the matched-pairs rank-biserial correlation (R+ - R-) / (R+ + R-), zeros ranked as Pratt does."""
    ranks = _signed_ranks(np.asarray(gains, dtype=float))
    total = float(np.abs(ranks).sum())
    return math.nan if not ranks.size else float(ranks.sum()) / total if total else 0.0


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
    share = (rankdata(x, method="average") - 0.5) / x.size
    return ["low" if s < 1 / 3 else "high" if s >= 2 / 3 else "mid" for s in share]


def noise_band(changes: ArrayLike) -> float:
    """Return the tie band: the 95th percentile of a scorer's change where nothing visible changed."""
    values = np.abs(np.asarray(changes, dtype=float))
    values = values[np.isfinite(values)]
    return float(np.quantile(values, 0.95)) if values.size else 0.0
