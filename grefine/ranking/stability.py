"""Does the ranking hold with fewer images per pair of methods? (the form of the SR-IQA paper's Fig. 4)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grefine.errors import ConfigError
from grefine.evaluate.correlation import srcc
from grefine.ranking.thurstone import fit_scores
from grefine.ranking.votes import VoteTable


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
