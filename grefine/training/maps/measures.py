"""How well scores agree with opinions."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from grefine.evaluate.correlation import plcc, srcc


def agreement(scores: Tensor, opinions: Tensor) -> dict[str, float]:
    """Return rank and linear correlation (0 where either does not vary) and the root of the mean squared error."""
    a, b = scores.double().numpy(), opinions.double().numpy()
    found = {"srcc": srcc(a, b), "plcc": plcc(a, b), "rmse": float(np.sqrt(np.mean((a - b) ** 2)))}
    return {name: 0.0 if np.isnan(value) else value for name, value in found.items()}


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the precision-recall curve of flat scores against bool truth."""
    order = np.argsort(-scores, kind="stable")
    hits = truth[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(hits.sum(), 1))
