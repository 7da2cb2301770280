"""Losses of quality networks: on predictions and labels (B,), and the fidelity of pairs to rankings."""

import math
from typing import Literal

import torch
from torch import Tensor

from grefine.errors import ConfigError


def norm_in_norm(predicted: Tensor, label: Tensor) -> Tensor:
    """Compare centred, unit-length predictions and labels (Li et al. 2020), at most 1; a batch of one by L1."""
    if len(predicted) < 2:
        return (predicted - label).abs().mean()
    a, b = (x - x.mean() for x in (predicted, label))
    a, b = (x / (x.norm() + 1e-8) for x in (a, b))
    return (a - b).abs().sum() / (2 * len(predicted) ** 0.5)


def correlation_loss(predicted: Tensor, label: Tensor) -> Tensor:
    """Return (1 - Pearson) / 2, in 0..1."""
    a, b = (x - x.mean() for x in (predicted, label))
    return (1 - (a * b).sum() / (a.norm() * b.norm() + 1e-8)) / 2


Phi = Literal["paper", "released"]
EPSILON = 1e-8
"""Inside both roots, for finite gradients where a probability is 0 or 1."""


def preference_probability(difference: Tensor, phi: Phi = "paper") -> Tensor:
    """Return the probability that the first is better, Phi(d / sqrt 2); the released code has Phi(d) (Eq. 4)."""
    scale = {"paper": 2.0, "released": math.sqrt(2.0)}[phi]
    return 0.5 * (1 + torch.erf(difference / scale))


def fidelity(label: Tensor, probability: Tensor) -> Tensor:
    """Return 1 - sqrt(r r_hat) - sqrt((1 - r)(1 - r_hat)), elementwise (Eq. 5)."""
    return 1 - torch.sqrt(label * probability + EPSILON) - torch.sqrt((1 - label) * (1 - probability) + EPSILON)


def order_labels(values: Tensor) -> Tensor:
    """Return r for all pairs i < j of `(n,)` values: 1, 0.5 or 0 for greater, equal, smaller."""
    i, j = _pairs(values)
    return 0.5 + 0.5 * torch.sign(values[i] - values[j])


def group_fidelity(Q: Tensor, mu: Tensor, phi: Phi = "paper") -> Tensor:
    """Return the loss of method means against a ranking, averaged over pairs of methods (Eq. 4, 5)."""
    means = Q.mean(1)
    i, j = _pairs(means)
    return fidelity(order_labels(mu), preference_probability(means[i] - means[j], phi)).mean()


def rated_fidelity(scores: Tensor, opinions: Tensor, phi: Phi = "paper") -> Tensor:
    """Return the loss over all pairs of one data set's rated images: groups of B = 1 (Eq. 4, 5)."""
    return group_fidelity(scores[:, None], opinions, phi)


def _pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    n = len(values)
    if n < 2:
        raise ConfigError("A pairwise loss needs at least two items.")
    i, j = torch.triu_indices(n, n, 1, device=values.device)
    return i, j
