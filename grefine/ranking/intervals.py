"""How sure a ranking is: resampling the people where they are known, the images otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from grefine.errors import ConfigError
from grefine.ranking.thurstone import fit_scores
from grefine.ranking.votes import VoteTable

Cluster = Literal["auto", "subject", "image"]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals of the scores and what they rest on."""

    low: np.ndarray
    high: np.ndarray
    standard_errors: np.ndarray
    by: str
    """"subject" or "image": what was resampled."""
    clusters: int
    resamples: int
    regularised: int
    """Resamples in which some score would have been infinite, so that a pseudo-count was added."""
    disconnected: int
    """Resamples left out because they compared two groups of methods not at all."""
    first: np.ndarray
    """Share of resamples in which each method is ranked first."""


def cluster_counts(table: VoteTable, by: Cluster = "auto") -> tuple[str, np.ndarray]:
    """Return what the votes are grouped by and one count matrix per group, `(groups, n, n)`."""
    if by not in ("auto", "subject", "image"):
        raise ConfigError(f"Intervals are by auto, subject or image, not by '{by}'.")
    if by == "auto":
        by = "subject" if table.has_subjects else "image"
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
    return by, C


def resampled_intervals(
    table: VoteTable, by: Cluster = "auto", resamples: int = 500, level: float = 0.95, seed: int = 0
) -> Intervals:
    """Refit on resampled subjects (or images); score ± t quantile times the resamples' spread.

    The spread of n resampled clusters is that of n - 1 independent ones, and few clusters leave it uncertain; so it is
    widened by sqrt(n / (n - 1)) and Student's t stands in for the normal quantile.

    Raises:
        ConfigError: fewer than two subjects or images.
    """
    from scipy.stats import t

    unit, parts = cluster_counts(table, by)
    n = len(parts)
    if n < 2:
        raise ConfigError(f"Intervals need votes of at least two {unit}s; there is {n}.")
    centre = fit_scores(parts.sum(0), table.methods).mu
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
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
    spread = mu.std(0, ddof=1) * np.sqrt(n / (n - 1))
    half = t.ppf(0.5 + level / 2, n - 1) * spread
    first = np.bincount(mu.argmax(1), minlength=mu.shape[1]) / len(mu)
    return Intervals(
        centre - half, centre + half, spread, unit, n, resamples, int(regularised), int(disconnected), first
    )
