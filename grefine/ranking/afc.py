"""How often a judge or a voter sides with the people who voted, and what could be reached at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
    sums: dict[tuple[str, str, str, str], Vote] = {}
    for v in map(_turned, table.votes):
        known = sums.get(_pair(v), replace(v, votes_a=0, votes_b=0, subject="", order=None))
        sums[_pair(v)] = replace(known, votes_a=known.votes_a + v.votes_a, votes_b=known.votes_b + v.votes_b)
    return VoteTable(table.methods, tuple(row for _, row in sorted(sums.items())))


def _pair(v: Vote) -> tuple[str, str, str, str]:
    return v.method_a, v.method_b, v.group, v.image


def _turned(v: Vote) -> Vote:
    """Return the vote with its methods in order of name."""
    if v.method_a < v.method_b:
        return v
    return replace(v, method_a=v.method_b, method_b=v.method_a, votes_a=v.votes_b, votes_b=v.votes_a)


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
    """Return what needs no look at the images: the human oracle, the global ranking, a fixed side.

    First is the first method of each row; of merged rows the one whose name comes first.
    """
    p = shares(table)
    choices = {
        "human oracle": preference(p, 1 - p),
        "global ranking": preference(*np.array([(mu[v.method_a], mu[v.method_b]) for v in table.votes]).T),
        "always first": np.ones_like(p),
        "always second": np.zeros_like(p),
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


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement figures; None where the votes cannot tell."""

    two_subjects: float | None
    """Probability that two different subjects prefer the same image of a pair."""
    human_oracle: float
    """2AFC score of always siding with the majority: no judge can do better."""
    against_ranking: tuple[tuple[str, str, int, int], ...]
    """Pairs of methods (winner, loser, votes, votes) that the votes decide against the fitted ranking."""
    circular_triads: int
    """Triples of methods in which each beats the next."""
    subjects: dict[str, float]
    """Per subject, the share of votes that agree with the majority of the others (ties count half)."""


def agreement(table: VoteTable, mu: np.ndarray) -> Agreement:
    """Measure the agreement in `table`, whose fitted scores are `mu`."""
    pairs = merged(table)
    p, votes = shares(pairs), np.array([(v.votes_a, v.votes_b) for v in pairs.votes], dtype=np.float64)
    n = votes.sum(1)
    several = n > 1
    same = (votes * (votes - 1)).sum(1)[several] / (n * (n - 1))[several]
    C, names = table.counts(), table.methods
    beats = C > C.T
    against = [(int(i), int(j)) for i, j in np.argwhere(beats & (mu[:, None] < mu[None, :]))]
    return Agreement(
        float(same.mean()) if several.any() else None,
        float(np.maximum(p, 1 - p).mean()),
        tuple((names[i], names[j], int(C[i, j]), int(C[j, i])) for i, j in against),
        int(np.trace(np.linalg.matrix_power(beats.astype(int), 3))) // 3,
        _with_the_others(table, pairs) if table.has_subjects else {},
    )


def _with_the_others(table: VoteTable, pairs: VoteTable) -> dict[str, float]:
    """Return by subject the share of votes that agree with the majority of the others."""
    sums = {_pair(v): v.votes_a - v.votes_b for v in pairs.votes}
    credits: dict[str, list[float]] = {}
    for v in map(_turned, table.votes):
        lead = v.votes_a - v.votes_b
        others = sums[_pair(v)] - lead
        credits.setdefault(v.subject, []).append(0.5 + 0.5 * float(np.sign(lead) * np.sign(others)))
    return {subject: float(np.mean(c)) for subject, c in sorted(credits.items())}
