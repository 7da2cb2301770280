"""From counted votes to scores by maximum likelihood (Thurstone's Case V, Bradley-Terry), and how sure these are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, log_expit, log_ndtr

from grefine.errors import ConfigError
from grefine.evaluate.correlation import srcc
from grefine.ranking.votes import VoteTable

Cluster = Literal["auto", "subject", "image", "both"]
Link = Literal["thurstone", "bradley-terry"]
PSEUDO_COUNT = 0.5
"""Added to both directions of every compared pair when the votes alone leave some score infinite."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Scores of one fit."""

    mu: np.ndarray
    """`(n,)`, sum zero, in units of the scatter of the difference of two methods; one method's own is 1 / sqrt 2."""
    log_likelihood: float
    """Of the counts as given, without pseudo-counts."""
    pseudo_count: float
    """What was added to both directions of every compared pair; 0 for plain maximum likelihood."""
    standard_errors: np.ndarray
    """`(n,)`, from the observed information, as if all votes were independent."""


def fit_scores(C: np.ndarray, methods: Sequence[str], link: Link = "thurstone") -> Fit:
    """Maximise the likelihood of the counts (Eq. 2) with sum(mu) = 0."""
    C = np.asarray(C, dtype=np.float64)
    groups = _groups(C + C.T)
    if len(groups) > 1:
        named = (" and ".join(m for m, inside in zip(methods, group, strict=True) if inside) for group in groups[:3])
        raise ConfigError(
            f"No vote connects {' with '.join(named)}: their scores cannot be compared; collect votes between these "
            "groups or rank them apart."
        )
    # Scores are finite where wins lead from every method to every other.
    pseudo_count = 0.0 if len(_groups(C)) == 1 else PSEUDO_COUNT
    with_prior = C + pseudo_count * ((C + C.T) > 0)
    mu, information = _newton(with_prior, link)
    value = float((C * _log_link(mu[:, None] - mu[None, :], link)).sum())
    return Fit(mu, value, pseudo_count, np.sqrt(np.maximum(np.diag(np.linalg.pinv(information)), 0)))


def _groups(C: np.ndarray) -> list[np.ndarray]:
    """Return who belongs together, `(n,)` bool each: wins lead from every method of a group to every other of it."""
    count, label = connected_components(C > 0, directed=True, connection="strong")
    return [label == group for group in range(count)]


def _log_link(d: np.ndarray, link: Link) -> np.ndarray:
    return log_ndtr(d) if link == "thurstone" else log_expit(d)


def _newton(C: np.ndarray, link: Link) -> tuple[np.ndarray, np.ndarray]:
    n = len(C)
    mu = np.zeros(n)
    value = float((C * _log_link(np.zeros((n, n)), link)).sum())
    information = np.zeros((n, n))
    for _ in range(200):
        d = mu[:, None] - mu[None, :]
        # The first and the negative second derivative of the log-link, stable in both tails.
        if link == "thurstone":
            first = np.exp(-0.5 * d * d - 0.5 * np.log(2 * np.pi) - log_ndtr(d))
            second = np.clip(first * (d + first), 0.0, 1.0)
        else:
            first, second = expit(-d), expit(d) * expit(-d)
        flow = C * first
        gradient = flow.sum(1) - flow.sum(0)
        weight = C * second
        weight = weight + weight.T
        information = np.diag(weight.sum(1)) - weight
        # The all-ones direction does not change the likelihood; adding it makes the system regular and keeps sum zero.
        step = np.linalg.solve(information + np.ones((n, n)) * max(weight.max(), 1e-300) / n, gradient)
        step -= step.mean()
        size = 1.0
        while True:
            moved = mu + size * step
            found = float((C * _log_link(moved[:, None] - moved[None, :], link)).sum())
            if found >= value - 1e-12 * abs(value) or size < 1e-8:
                break
            size /= 2
        mu, value = moved, found
        if np.abs(size * step).max() < 1e-12:
            break
    return mu - mu.mean(), information


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
