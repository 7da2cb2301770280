"""How sure a ranking is: how far people agree, intervals, and the same ranking from fewer images per pair."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from grefine.errors import ConfigError
from grefine.evaluate.correlation import srcc
from grefine.ranking.thurstone import fit_scores
from grefine.ranking.votes import VoteTable

Cluster = Literal["auto", "subject", "image", "both"]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals of the scores and what they rest on."""

    low: np.ndarray
    high: np.ndarray
    standard_errors: np.ndarray
    by: str
    """What was resampled: "subject", "image" or "subject and image"."""
    clusters: int
    """How many there are; of both, the smaller number."""
    resamples: int


def resampled_intervals(
    table: VoteTable, by: Cluster = "auto", resamples: int = 500, level: float = 0.95, seed: int = 0
) -> Intervals:
    """Refit on resampled subjects, images, or both; score ± t quantile times the resamples' spread.

    Where both are resampled, each by itself, their variances add up, and the votes' own scatter, which is in both, is
    taken off once (two-way clusters, Cameron, Gelbach and Miller 2011).
    """
    units = {"both": ("subject", "image")}.get(by, (by,))
    if by == "auto":
        several = table.has_subjects and len({v.subject for v in table.votes}) > 1
        units = ("subject",) * several + ("image",) * (len({v.image for v in table.votes}) > 1 or not several)
    fit = fit_scores(table.counts(), table.methods)
    rng = np.random.default_rng(seed)
    found = [_resampled(table, unit, resamples, rng) for unit in units]
    n = min(n for n, _ in found)
    # The variance of n resampled clusters is that of n - 1 independent ones, so it is widened by n / (n - 1).
    variances = np.array([mu.var(0, ddof=1) * clusters / (clusters - 1) for clusters, mu in found])
    variance = variances.sum(0) - (len(found) - 1) * fit.standard_errors**2
    spread = np.sqrt(np.maximum(variance, variances.max(0)))
    half = stats.t.ppf(0.5 + level / 2, n - 1) * spread
    return Intervals(fit.mu - half, fit.mu + half, spread, " and ".join(units), n, resamples)


def _resampled(table: VoteTable, by: str, resamples: int, rng: np.random.Generator) -> tuple[int, np.ndarray]:
    """Return how many subjects or images there are, and the scores `(draws, methods)` of draws that can be fitted."""
    if by not in ("subject", "image"):
        raise ConfigError(f"Intervals are by auto, subject, image or both, not by '{by}'.")
    if by == "subject" and not table.has_subjects:
        raise ConfigError("Intervals by subject need a 'subject' in every row; these votes name none (use by image).")
    names = [v.subject for v in table.votes] if by == "subject" else table.images()
    labels, where = np.unique(np.array(names), return_inverse=True)
    n, (a, b) = len(labels), table.indices()
    if n < 2:
        raise ConfigError(f"Intervals need votes of at least two {by}s; there is {n}.")
    parts = np.zeros((n, len(table.methods), len(table.methods)))
    np.add.at(parts, (where, a, b), [v.votes_a for v in table.votes])
    np.add.at(parts, (where, b, a), [v.votes_b for v in table.votes])
    weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    fits = (_scores(C, table.methods) for C in np.tensordot(weights, parts, axes=1))
    mu = np.array([found for found in fits if found is not None])
    if len(mu) < 2:
        raise ConfigError(f"Too few votes: resampling {by}s leaves methods that are never compared.")
    return n, mu


def agreement(table: VoteTable) -> tuple[float | None, float]:
    """Return how likely two subjects prefer the same image of a pair (None where no pair has two votes), and the 2AFC
    score of always siding with the majority: no judge can do better.
    """
    pairs = table.merged()
    p, votes = pairs.shares(), np.array([(v.votes_a, v.votes_b) for v in pairs.votes], dtype=np.float64)
    n = votes.sum(1)
    several = n > 1
    same = (votes * (votes - 1)).sum(1)[several] / (n * (n - 1))[several]
    return (float(same.mean()) if several.any() else None), float(np.maximum(p, 1 - p).mean())


@dataclass(frozen=True, slots=True)
class StabilityPoint:
    """Rank correlation with the full ranking when only K images per pair of methods are kept."""

    K: int
    mean: float
    low: float
    """The 5 % point of the draws."""


def stability(table: VoteTable, draws: int = 100, seed: int = 0, largest: int | None = None) -> list[StabilityPoint]:
    """Return the curve over K = 1 ... the images per pair, K drawn at random for each pair of methods."""
    named = zip(table.votes, table.images(), strict=True)
    units = VoteTable(table.methods, tuple(replace(vote, image=name) for vote, name in named)).merged()
    a, b = units.indices()
    wins = np.array([(v.votes_a, v.votes_b) for v in units.votes], dtype=np.float64).T
    pairs = [np.nonzero((a == i) & (b == j))[0] for i, j in np.unique(np.stack([a, b], 1), axis=0)]
    full = fit_scores(table.counts(), table.methods).mu
    generator = np.random.default_rng(seed)

    def drawn(K: int) -> float | None:
        chosen = np.concatenate([generator.permutation(pair)[:K] for pair in pairs])
        C = np.zeros((len(full), len(full)))
        np.add.at(C, (a[chosen], b[chosen]), wins[0, chosen])
        np.add.at(C, (b[chosen], a[chosen]), wins[1, chosen])
        mu = _scores(C, table.methods)
        return None if mu is None else srcc(mu, full)

    points = []
    for K in range(1, (largest or max(map(len, pairs))) + 1):
        found = [value for value in (drawn(K) for _ in range(draws)) if value is not None]
        if found:
            points.append(StabilityPoint(K, float(np.mean(found)), float(np.percentile(found, 5))))
    return points


def stability_in_order(table: VoteTable, group: str = "mad") -> list[tuple[int, float]]:
    """Return (K, correlation) for the first K images that the selection picked, where the votes record its order."""
    orders = {i: v.order for i, v in enumerate(table.votes) if v.order is not None and group in ("", v.group)}
    most = max(orders.values(), default=-1) + 1
    curve = ((K, _against(table, [i for i, order in orders.items() if order < K])) for K in range(1, most + 1))
    return [(K, value) for K, value in curve if value is not None]


def group_correlations(table: VoteTable) -> dict[str, float]:
    """Return, per group of pairs ("mad", "random", ...), its own ranking's correlation with the full one."""
    groups = sorted({v.group for v in table.votes})
    if len(groups) < 2:
        return {}
    found = {group: _against(table, [i for i, v in enumerate(table.votes) if v.group == group]) for group in groups}
    return {group: value for group, value in found.items() if value is not None}


def _against(table: VoteTable, rows: list[int]) -> float | None:
    """Return how the ranking from some of the votes correlates with that from all."""
    mu = _scores(table.subset(rows).counts(), table.methods)
    return None if mu is None else srcc(mu, fit_scores(table.counts(), table.methods).mu)


def _scores(C: np.ndarray, methods: Sequence[str]) -> np.ndarray | None:
    """Return the scores, or None where two groups of methods are not compared at all."""
    try:
        return fit_scores(C, methods).mu
    except ConfigError:
        return None
