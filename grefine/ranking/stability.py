"""Does the ranking hold with fewer images per pair of methods? (the form of the SR-IQA paper's Fig. 4)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from grefine.errors import ConfigError
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


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation; NaN when one side is constant."""
    from scipy.stats import rankdata

    a, b = rankdata(x), rankdata(y)
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def stability(table: VoteTable, draws: int = 100, seed: int = 0, largest: int | None = None) -> list[StabilityPoint]:
    """Return the curve over K = 1 ... the images per pair, K drawn at random for each pair of methods."""
    rows = _rows_by_pair(table)
    full = fit_scores(table.counts(), table.methods).mu
    most = max(len({table.votes[i].image for i in group}) for group in rows)
    generator = np.random.default_rng(seed)
    points = []
    for K in range(1, (largest or most) + 1):
        found = []
        for _ in range(draws):
            keep = [i for group in rows for i in _draw(table, group, K, generator)]
            srcc = _against(table, keep, full)
            if srcc is not None:
                found.append(srcc)
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
        srcc = _against(table, [i for i in rows if (table.votes[i].order or 0) < K], full)
        if srcc is not None:
            curve.append((K, srcc))
    return curve


def group_correlations(table: VoteTable) -> dict[str, float]:
    """Return, per group of pairs ("mad", "random", ...), its own ranking's correlation with the full one."""
    groups = sorted({v.group for v in table.votes})
    if len(groups) < 2:
        return {}
    full = fit_scores(table.counts(), table.methods).mu
    found = {g: _against(table, [i for i, v in enumerate(table.votes) if v.group == g], full) for g in groups}
    return {g: value for g, value in found.items() if value is not None}


def _rows_by_pair(table: VoteTable) -> list[np.ndarray]:
    a, b = table.indices()
    key = np.minimum(a, b) * len(table.methods) + np.maximum(a, b)
    return [np.nonzero(key == k)[0] for k in np.unique(key)]


def _draw(table: VoteTable, group: np.ndarray, K: int, generator: np.random.Generator) -> list[int]:
    images = np.array([f"{table.votes[i].group}\0{table.votes[i].image}" for i in group])
    distinct = np.unique(images)
    kept = generator.choice(distinct, min(K, len(distinct)), replace=False)
    return [int(i) for i, image in zip(group, images, strict=True) if image in set(kept)]


def _against(table: VoteTable, rows: list[int], full: np.ndarray) -> float | None:
    try:
        return spearman(fit_scores(table.subset(rows).counts(), table.methods).mu, full)
    except ConfigError:
        return None
