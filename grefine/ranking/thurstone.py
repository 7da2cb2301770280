"""Thurstone's Case V and Bradley-Terry by maximum likelihood: from counted votes to scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, log_expit, log_ndtr

from grefine.errors import ConfigError

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
