"""How well a metric follows people: rank and linear correlation, errors, intervals, per dataset."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import leastsq
from scipy.special import expit

from grefine.errors import ConfigError
from grefine.evaluate.statistics import SEED

MOST = 2**19
"""Items of all resamples that are held together: fifty megabytes or so."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of predictions with opinion scores; NaN where it is not defined (fewer than 2, or all equal)."""

    n: int
    srcc: float
    plcc: float
    """Pearson on the raw predictions."""
    plcc_fitted: float
    """Pearson after the 5-parameter logistic; NaN with fewer than 6 values."""
    krcc: float
    """Kendall's tau-b."""
    rmse: float
    """Of the fitted predictions where a fit exists, else of the raw ones."""
    mae: float
    """The same."""
    rmse_raw: float
    mae_raw: float
    """Both of the predictions as they are, which means something on the opinions' scale alone."""
    fitted: bool
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % percentile bootstrap over items for srcc, plcc and krcc."""


def _correlation(measure: str, predicted: ArrayLike, opinion: ArrayLike) -> float:
    x, y = _both(predicted, opinion)
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(getattr(stats, measure)(x, y).statistic)


srcc, plcc, krcc = (partial(_correlation, measure) for measure in ("spearmanr", "pearsonr", "kendalltau"))
"""Spearman's rank correlation, Pearson's linear one, Kendall's tau-b; NaN where all values are equal."""


def logistic5(x: ArrayLike, b1: float, b2: float, b3: float, b4: float, b5: float) -> np.ndarray:
    """Return b1 (1/2 - 1/(1 + exp(b2 (x - b3)))) + b4 x + b5, the field's usual 5-parameter mapping."""
    x = np.asarray(x, dtype=float)
    return b1 * (expit(b2 * (x - b3)) - 0.5) + b4 * x + b5


def fit_logistic5(predicted: ArrayLike, opinion: ArrayLike) -> np.ndarray | None:
    """Map predictions onto opinion scores by least squares; None when there is too little to fit.

    Fitting runs on standardised predictions, so that metrics of any scale converge alike. The best of several starts
    counts: from one alone, a curve that saturates is often missed. A straight line is a fit, too (b1 = 0).
    """
    x, y = _both(predicted, opinion)
    if x.size < 6 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    z = (x - x.mean()) / x.std()
    slope = np.polyfit(z, y, 1)
    sign, mean = math.copysign(1.0, slope[0]), y.mean()
    best, least = np.polyval(slope, z), math.inf
    for steep, centre, line in ((1, 0, slope[0] / 2), *((s, c, 0.0) for s in (4.0, 20.0) for c in (-1.0, 0.0, 1.0))):
        start = (np.ptp(y), steep * sign, centre, line, mean)
        fitted = logistic5(z, *leastsq(lambda b: logistic5(z, *b) - y, start, full_output=True, maxfev=5000)[0])
        error = float(((fitted - y) ** 2).sum())
        if error < least * (1 - 1e-6):
            best, least = fitted, error
    line_error = float(((np.polyval(slope, z) - y) ** 2).sum())
    return best if least <= line_error else np.polyval(slope, z)


def agreement(predicted: ArrayLike, opinion: ArrayLike, *, resamples: int = 1000, seed: int = SEED) -> Agreement:
    """Return every measure of agreement with 95 % intervals; pairs with a value that is not finite are left out."""
    x, y = _both(predicted, opinion)
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    mapped = fit_logistic5(x, y)
    error = (x if mapped is None else mapped) - y
    return Agreement(
        n=x.size,
        srcc=srcc(x, y),
        plcc=plcc(x, y),
        plcc_fitted=math.nan if mapped is None else plcc(mapped, y),
        krcc=krcc(x, y),
        rmse=float(np.sqrt((error**2).mean())) if x.size else math.nan,
        mae=float(np.abs(error).mean()) if x.size else math.nan,
        rmse_raw=float(np.sqrt(((x - y) ** 2).mean())) if x.size else math.nan,
        mae_raw=float(np.abs(x - y).mean()) if x.size else math.nan,
        fitted=mapped is not None,
        intervals=_intervals(x, y, resamples, seed),
    )


def _intervals(x: np.ndarray, y: np.ndarray, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Resample the items; many resamples at once, for scipy spends most of its time before it counts."""
    if x.size < 4 or resamples < 1:
        return {}
    rng, step = np.random.default_rng(seed), max(1, MOST // x.size)
    drawn: dict[str, list[float]] = {"srcc": [], "plcc": [], "krcc": []}
    for start in range(0, resamples, step):
        picks = rng.integers(0, x.size, (min(step, resamples - start), x.size))
        picks = picks[(np.ptp(x[picks], axis=1) > 0) & (np.ptp(y[picks], axis=1) > 0)]
        if not len(picks):
            continue
        xs, ys = x[picks], y[picks]
        ranks = np.stack([stats.rankdata(xs, axis=1), stats.rankdata(ys, axis=1)], 1)
        drawn["srcc"] += [np.corrcoef(pair)[1, 0] for pair in ranks]
        drawn["plcc"] += stats.pearsonr(xs, ys, axis=1).statistic.tolist()
        drawn["krcc"] += [stats.kendalltau(*pair).statistic for pair in zip(xs, ys, strict=True)]
    ends = {name: np.quantile(values, (0.025, 0.975)) for name, values in drawn.items() if values}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _both(predicted: ArrayLike, opinion: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(predicted, dtype=float).ravel(), np.asarray(opinion, dtype=float).ravel()
    if x.size != y.size:
        raise ConfigError(f"{x.size} predictions for {y.size} opinion scores: give one prediction per item.")
    return x, y
