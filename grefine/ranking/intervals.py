"""How sure a ranking is: resampling people and images, and the same ranking from fewer images per pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

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
    regularised: int
    """Resamples in which some score would have been infinite, so that a pseudo-count was added."""
    disconnected: int
    """Resamples left out because they compared two groups of methods not at all."""
    first: np.ndarray
    """Share of resamples in which each method is ranked first."""


def cluster_counts(table: VoteTable, by: str) -> np.ndarray:
    """Return one count matrix per subject or image, `(groups, n, n)`."""
    if by not in ("subject", "image"):
        raise ConfigError(f"Intervals are by auto, subject, image or both, not by '{by}'.")
    if by == "subject" and not table.has_subjects:
        raise ConfigError("Intervals by subject need a 'subject' in every row; these votes name none (use by image).")
    # A row without an image name stands for itself.
    names = [v.subject if by == "subject" else v.image or f"row {i}" for i, v in enumerate(table.votes)]
    labels, where = np.unique(np.array(names), return_inverse=True)
    a, b = table.indices()
    n = len(table.methods)
    C = np.zeros((len(labels), n, n))
    np.add.at(C, (where, a, b), [v.votes_a for v in table.votes])
    np.add.at(C, (where, b, a), [v.votes_b for v in table.votes])
    return C


def resampled_intervals(
    table: VoteTable, by: Cluster = "auto", resamples: int = 500, level: float = 0.95, seed: int = 0
) -> Intervals:
    """Refit on resampled subjects, images, or both; score ± t quantile times the resamples' spread.

    Where both are resampled, each by itself, their variances add up, and the votes' own scatter, which is in both, is
    taken off once (two-way clusters, Cameron, Gelbach and Miller 2011).
    """
    from scipy.stats import t

    units = {"both": ("subject", "image")}.get(by, (by,))
    if by == "auto":
        several = table.has_subjects and len({v.subject for v in table.votes}) > 1
        units = ("subject",) * several + ("image",) * (len({v.image for v in table.votes}) > 1 or not several)
    fit = fit_scores(table.counts(), table.methods)
    rng = np.random.default_rng(seed)
    found = [_resampled(table, unit, resamples, rng) for unit in units]
    n = min(f.clusters for f in found)
    draws = fit.mu + sum(f.deviations[: min(len(f.deviations) for f in found)] for f in found)
    variances = np.array([f.variance for f in found])
    variance = variances.sum(0) - (len(found) - 1) * fit.standard_errors**2
    spread = np.sqrt(np.maximum(variance, variances.max(0)))
    half = t.ppf(0.5 + level / 2, n - 1) * spread
    return Intervals(
        fit.mu - half,
        fit.mu + half,
        spread,
        " and ".join(units),
        n,
        resamples,
        sum(f.regularised for f in found),
        sum(f.disconnected for f in found),
        np.bincount(draws.argmax(1), minlength=draws.shape[1]) / len(draws),
    )


@dataclass(frozen=True, slots=True)
class _Resampled:
    clusters: int
    deviations: np.ndarray
    """`(draws, methods)` from the scores of all votes."""
    variance: np.ndarray
    """The variance of n resampled clusters is that of n - 1 independent ones, so it is widened by n / (n - 1)."""
    regularised: int
    disconnected: int


def _resampled(table: VoteTable, unit: str, resamples: int, rng: np.random.Generator) -> _Resampled:
    parts = cluster_counts(table, unit)
    n = len(parts)
    if n < 2:
        raise ConfigError(f"Intervals need votes of at least two {unit}s; there is {n}.")
    weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    draws, regularised, disconnected = [], 0, 0
    for C in np.tensordot(weights, parts, axes=1):
        try:
            fit = fit_scores(C, table.methods)
        except ConfigError:
            disconnected += 1
            continue
        regularised += fit.pseudo_count > 0
        draws.append(fit.mu)
    if len(draws) < 2:
        raise ConfigError(f"Too few votes: resampling {unit}s leaves methods that are never compared.")
    mu = np.array(draws)
    centre = fit_scores(parts.sum(0), table.methods).mu
    return _Resampled(n, mu - centre, mu.var(0, ddof=1) * n / (n - 1), int(regularised), disconnected)


@dataclass(frozen=True, slots=True)
class StabilityPoint:
    """Rank correlation with the full ranking when only K images per pair of methods are kept."""

    K: int
    mean: float
    low: float
    """5 % point over the draws."""
    draws: int
    """Draws that could be fitted."""


def stability(table: VoteTable, draws: int = 100, seed: int = 0, largest: int | None = None) -> list[StabilityPoint]:
    """Return the curve over K = 1 ... the images per pair, K drawn at random for each pair of methods."""
    units = _Units(table)
    full = fit_scores(table.counts(), table.methods).mu
    generator = np.random.default_rng(seed)
    points = []
    for K in range(1, (largest or units.most) + 1):
        found = []
        for _ in range(draws):
            value = _correlation(units.counts(units.drawn(K, generator)), table.methods, full)
            if value is not None:
                found.append(value)
        if found:
            points.append(StabilityPoint(K, float(np.mean(found)), float(np.percentile(found, 5)), len(found)))
    return points


def stability_in_order(table: VoteTable, group: str = "mad") -> list[tuple[int, float]]:
    """Return (K, correlation) for the first K images that the selection picked, where the votes record its order."""
    rows = [i for i, v in enumerate(table.votes) if v.order is not None and (not group or v.group == group)]
    if not rows:
        return []
    full = fit_scores(table.counts(), table.methods).mu
    most = max(table.votes[i].order or 0 for i in rows) + 1
    curve = []
    for K in range(1, most + 1):
        value = _against(table, [i for i in rows if (table.votes[i].order or 0) < K], full)
        if value is not None:
            curve.append((K, value))
    return curve


def group_correlations(table: VoteTable) -> dict[str, float]:
    """Return, per group of pairs ("mad", "random", ...), its own ranking's correlation with the full one."""
    groups = sorted({v.group for v in table.votes})
    if len(groups) < 2:
        return {}
    full = fit_scores(table.counts(), table.methods).mu
    found = {g: _against(table, [i for i, v in enumerate(table.votes) if v.group == g], full) for g in groups}
    return {g: value for g, value in found.items() if value is not None}


class _Units:
    """The votes added up per pair of methods and image: what a smaller study would have or not have."""

    def __init__(self, table: VoteTable) -> None:
        a, b = table.indices()
        low, high = np.minimum(a, b), np.maximum(a, b)
        images = [f"{v.group}\0{v.image or i}" for i, v in enumerate(table.votes)]
        _, image = np.unique(np.array(images), return_inverse=True)
        self.n = len(table.methods)
        key = (low * self.n + high) * (image.max() + 1) + image
        _, first, unit = np.unique(key, return_index=True, return_inverse=True)
        wins = np.array([(v.votes_a, v.votes_b) for v in table.votes], dtype=np.float64)
        wins[a > b] = wins[a > b][:, ::-1]
        self.low, self.high = low[first], high[first]
        self.wins = np.stack([np.bincount(unit, wins[:, side]) for side in (0, 1)], 1)
        pair = self.low * self.n + self.high
        self.pairs = [np.nonzero(pair == p)[0] for p in np.unique(pair)]
        self.most = max(len(p) for p in self.pairs)

    def drawn(self, K: int, generator: np.random.Generator) -> np.ndarray:
        """Return K random units of every pair of methods."""
        return np.concatenate([generator.permutation(p)[:K] for p in self.pairs])

    def counts(self, chosen: np.ndarray) -> np.ndarray:
        """Return the count matrix of some units."""
        C = np.zeros((self.n, self.n))
        np.add.at(C, (self.low[chosen], self.high[chosen]), self.wins[chosen, 0])
        np.add.at(C, (self.high[chosen], self.low[chosen]), self.wins[chosen, 1])
        return C


def _against(table: VoteTable, rows: list[int], full: np.ndarray) -> float | None:
    return _correlation(table.subset(rows).counts(), table.methods, full)


def _correlation(C: np.ndarray, methods: Sequence[str], full: np.ndarray) -> float | None:
    try:
        return srcc(fit_scores(C, methods).mu, full)
    except ConfigError:
        return None
