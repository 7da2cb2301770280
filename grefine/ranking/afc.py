"""How often a judge or a voter sides with the people who voted, and what could be reached at all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grefine.errors import ConfigError
from grefine.ranking.votes import Vote, VoteTable


@dataclass(frozen=True, slots=True)
class AfcResult:
    score: float
    """Mean credit over pairs, 0..1."""
    interval: tuple[float, float]
    """95 % of the resamples of images."""
    credits: np.ndarray
    """`(pairs,)`, one per row of the table."""
    ties: int = 0


def preference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return 1 where the first value is larger, 0 where the second is, 0.5 for a tie."""
    return 0.5 + 0.5 * np.sign(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64))


def merged(table: VoteTable) -> VoteTable:
    """Return the table with one row per pair of images, the votes of all rows added up, methods in order of name."""
    sums: dict[tuple[str, str, str, str], Counter[str]] = {}
    for v in table.votes:
        a, b = sorted((v.method_a, v.method_b))
        sums.setdefault((a, b, v.group, v.image), Counter()).update({v.method_a: v.votes_a, v.method_b: v.votes_b})
    rows = (Vote(a, b, image, n[a], n[b], group=group) for (a, b, group, image), n in sorted(sums.items()))
    return VoteTable(table.methods, tuple(rows))


def shares(table: VoteTable) -> np.ndarray:
    """Return the share of votes for the first method, one per row."""
    return np.array([v.share_a for v in table.votes])


def two_afc(table: VoteTable, q: np.ndarray, resamples: int = 1000, seed: int = 0) -> AfcResult:
    """Score the choices q (1 first, 0 second, 0.5 tie), one per row of the table, by the people that each follows."""
    q = np.asarray(q, dtype=np.float64)
    if q.shape != (len(table.votes),):
        raise ConfigError(f"{q.size} choices were given for {len(table.votes)} pairs.")
    p = shares(table)
    credits = p * q + (1 - p) * (1 - q)
    interval = clustered_interval(credits, table.images(), resamples, seed)
    return AfcResult(float(credits.mean()), interval, credits, int((q == 0.5).sum()))


def judge_choices(table: VoteTable, values: Mapping[tuple[str, str], float]) -> np.ndarray:
    """Return the choices of a judge that gives every (method, image) a value, more for better."""
    missing = [k for v in table.votes for k in ((v.method_a, v.image), (v.method_b, v.image)) if k not in values]
    if missing:
        method, image = missing[0]
        raise ConfigError(f"{len(missing)} voted images have no value, first '{image}' of '{method}'.")
    first = np.array([values[v.method_a, v.image] for v in table.votes])
    second = np.array([values[v.method_b, v.image] for v in table.votes])
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ConfigError("The judge's values contain NaN or infinity; every image needs a finite value.")
    return preference(first, second)


def baselines(table: VoteTable, mu: Mapping[str, float], resamples: int = 1000, seed: int = 0) -> dict[str, AfcResult]:
    """Return what needs no look at the images: the human oracle and the global ranking."""
    p = shares(table)
    choices = {
        "human oracle": preference(p, 1 - p),
        "global ranking": preference(*np.array([(mu[v.method_a], mu[v.method_b]) for v in table.votes]).T),
    }
    return {name: two_afc(table, q, resamples, seed) for name, q in choices.items()}


def clustered_interval(values: np.ndarray, images: Sequence[str], resamples: int, seed: int) -> tuple[float, float]:
    """Return 95 % of the means over resampled images, because values of one image share its difficulty."""
    _, where = np.unique(np.array(images), return_inverse=True)
    n = int(where.max()) + 1
    total, size = np.bincount(where, values, n), np.bincount(where, minlength=n)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    low, high = np.percentile(weights @ total / (weights @ size), (2.5, 97.5))
    return float(low), float(high)


def agreement(table: VoteTable) -> tuple[float | None, float]:
    """Return how likely two subjects prefer the same image of a pair (None where no pair has two votes), and the 2AFC
    score of always siding with the majority: no judge can do better.
    """
    pairs = merged(table)
    p, votes = shares(pairs), np.array([(v.votes_a, v.votes_b) for v in pairs.votes], dtype=np.float64)
    n = votes.sum(1)
    several = n > 1
    same = (votes * (votes - 1)).sum(1)[several] / (n * (n - 1))[several]
    return (float(same.mean()) if several.any() else None), float(np.maximum(p, 1 - p).mean())
