"""Losses of quality networks over a batch of predictions and labels `(B,)`."""

from __future__ import annotations

import torch
from torch import Tensor


def norm_in_norm(predicted: Tensor, label: Tensor, p: float = 1.0, q: float = 2.0) -> Tensor:
    """Compare centred, unit-length predictions and labels (Li et al. 2020); a batch of one is compared by L1.

    The divisor makes the largest possible value one.
    """
    if len(predicted) < 2:
        return (predicted - label).abs().mean()
    a, b = (x - x.mean() for x in (predicted, label))
    a, b = (x / (x.norm(q) + 1e-8) for x in (a, b))
    scale = 2**p * len(predicted) ** max(0.0, 1 - p / q)
    return (a - b).abs().pow(p).sum() / scale


def correlation_loss(predicted: Tensor, label: Tensor) -> Tensor:
    """Return (1 - Pearson) / 2, in 0..1."""
    a, b = (x - x.mean() for x in (predicted, label))
    return (1 - (a * b).sum() / (a.norm() * b.norm() + 1e-8)) / 2


def away_from(found: Tensor, wanted: Tensor) -> Tensor:
    """Return 1 - the mean cosine between directions (B, ...), in 0..2; those that are wanted nowhere are left out."""
    found, wanted = found.flatten(1), wanted.flatten(1)
    known = wanted.norm(dim=1) > 0
    return 1 - torch.cosine_similarity(found, wanted, dim=1)[known].sum() / known.sum().clamp(min=1)
