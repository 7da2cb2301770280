"""How much the voters agree with one another and with the ranking that was fitted to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grefine.ranking.afc import merged, shares
from grefine.ranking.votes import VoteTable


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
    p = shares(pairs)
    return Agreement(
        _two_subjects(pairs), float(np.maximum(p, 1 - p).mean()), _against(table, mu), _triads(table), _each(table)
    )


def _two_subjects(pairs: VoteTable) -> float | None:
    a = np.array([v.votes_a for v in pairs.votes], dtype=np.float64)
    b = np.array([v.votes_b for v in pairs.votes], dtype=np.float64)
    n = a + b
    several = n > 1
    if not several.any():
        return None
    same = (a * (a - 1) + b * (b - 1))[several] / (n * (n - 1))[several]
    return float(same.mean())


def _against(table: VoteTable, mu: np.ndarray) -> tuple[tuple[str, str, int, int], ...]:
    C = table.counts()
    i, j = np.nonzero((C > C.T) & (mu[:, None] < mu[None, :]))
    names = table.methods
    return tuple((names[x], names[y], int(C[x, y]), int(C[y, x])) for x, y in zip(i, j, strict=True))


def _triads(table: VoteTable) -> int:
    C = table.counts()
    beats = (C > C.T).astype(np.float64)
    return round(float(np.trace(beats @ beats @ beats)) / 3)


def _each(table: VoteTable) -> dict[str, float]:
    if not table.has_subjects:
        return {}

    def key(v):  # noqa: ANN001, ANN202
        return (*sorted((v.method_a, v.method_b)), v.image, v.group)

    sums: dict[tuple, float] = {}
    own = []
    for v in table.votes:
        lead = (v.votes_a - v.votes_b) * (1 if v.method_a < v.method_b else -1)
        sums[key(v)] = sums.get(key(v), 0) + lead
        own.append((v.subject, key(v), lead))
    credits: dict[str, list[float]] = {}
    for subject, pair, lead in own:
        others = sums[pair] - lead
        credits.setdefault(subject, []).append(0.5 + 0.5 * float(np.sign(lead) * np.sign(others)))
    return {subject: float(np.mean(c)) for subject, c in sorted(credits.items())}
