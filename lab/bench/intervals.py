"""Values with 95 % intervals: Wilson for shares, the bootstrap over pictures for everything else."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import bootstrap, rankdata, spearmanr

from grefine.evaluate.statistics import SEED
from grefine.indicators.evidence import separation_of
from lab.bench.report import Row

RESAMPLES = 400
BINS = 1024
"""Levels into which map values are sorted before precision and recall are counted."""
EMPTY = Row(math.nan, math.nan, math.nan, 0)
Z = NormalDist().inv_cdf(0.975)


def share(hits: ArrayLike) -> Row:
    """Return a share of bool outcomes with Wilson's score interval (1927)."""
    values = np.asarray(hits, dtype=float).ravel()
    n = values.size
    if n == 0:
        return EMPTY
    p = float(values.mean())
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return Row(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), n)


def share_of(p: float, n: int) -> Row:
    """Return a share of `n` outcomes that was counted elsewhere, with Wilson's interval."""
    return share(np.arange(n) < round(p * n))


def mean(values: ArrayLike) -> Row:
    x = np.asarray(values, dtype=float).ravel()
    if x.size == 0:
        return EMPTY
    found = float(x.mean())
    if x.size < 2 or np.ptp(x) == 0:
        return Row(found, *((found, found) if x.size > 1 else (math.nan, math.nan)), x.size)
    low, high = bootstrap((x,), np.mean, batch=1000, rng=SEED).confidence_interval
    return Row(found, float(low), float(high), x.size)


def ratio(after: ArrayLike, before: ArrayLike) -> Row:
    """Return mean(after) / mean(before) of the same pictures."""
    pairs = np.stack([np.asarray(after, dtype=float), np.asarray(before, dtype=float)], 1)
    return _bootstrap([pairs], lambda p: float(p[:, 0].mean() / p[:, 1].mean()))


def separation(good: ArrayLike, bad: ArrayLike) -> Row:
    """Return the area under the ROC curve: how often a good picture scores above a bad one; ties count half."""
    return _bootstrap([np.asarray(good, dtype=float), np.asarray(bad, dtype=float)], separation_of)


def correlation(values: ArrayLike, truth: ArrayLike) -> Row:
    def srcc(pairs: np.ndarray) -> float:
        constant = np.ptp(pairs[:, 0]) == 0 or np.ptp(pairs[:, 1]) == 0
        return 0.0 if constant else float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)

    return _bootstrap([np.stack([np.asarray(values, dtype=float), np.asarray(truth, dtype=float)], 1)], srcc)


def mean_correlation(values: np.ndarray, truth: ArrayLike) -> Row:
    """Return the mean of Spearman's correlations of several columns (C, n) with one truth (n,)."""

    def srcc(rows: np.ndarray) -> float:
        ranks = rankdata(rows, axis=0)
        ranks = (ranks - ranks.mean(0)) / np.maximum(ranks.std(0), 1e-12)
        return float((ranks[:, :-1] * ranks[:, -1:]).mean(0).mean())

    return _bootstrap([np.concatenate([values.T, np.asarray(truth, dtype=float)[:, None]], 1)], srcc)


def average_precision(scores: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> Row:
    """Return the area under the precision-recall curve over the pixels of all maps; whole pictures are resampled."""
    if not scores:
        return EMPTY
    values = np.stack([np.asarray(s, dtype=float).ravel() for s in scores])
    truth = np.stack([np.asarray(t, dtype=bool).ravel() for t in truths])
    # Equal shares of the pixels per bin, so that bins lie where the values are.
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    level = np.searchsorted(edges, values, side="right")
    hits = np.stack([np.bincount(lv[t], minlength=BINS) for lv, t in zip(level, truth, strict=True)])
    total = np.stack([np.bincount(lv, minlength=BINS) for lv in level])
    both = np.stack([hits, total], 1)[:, :, ::-1].astype(float)

    def area(counts: np.ndarray) -> float:
        """Sum from the highest bin down, over (n, 2, BINS) counts of hits and of all pixels."""
        counts = counts.sum(0)
        hits, total = np.cumsum(counts, axis=1)
        return float((hits / np.maximum(total, 1) * counts[0]).sum() / hits[-1]) if hits[-1] else 0.0

    return _bootstrap([both], area)


def _bootstrap(groups: list[np.ndarray], value: Callable[..., float]) -> Row:
    """Percentile bootstrap: every group is resampled by itself."""
    if any(len(group) == 0 for group in groups):
        return EMPTY
    rng = np.random.default_rng(SEED)
    drawn = [value(*(g[rng.integers(0, len(g), len(g))] for g in groups)) for _ in range(RESAMPLES)]
    low, high = np.quantile(np.asarray(drawn), [0.025, 0.975])
    found = value(*groups)
    return Row(found, float(min(low, found)), float(max(high, found)), sum(map(len, groups)))
