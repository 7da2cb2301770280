"""How well scores agree with opinions."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def agreement(scores: Tensor, opinions: Tensor) -> dict[str, float]:
    """Return rank and linear correlation (0 where either does not vary) and the root of the mean squared error."""
    from scipy.stats import pearsonr, spearmanr

    a, b = scores.double().numpy(), opinions.double().numpy()
    varies = np.ptp(a) > 0 and np.ptp(b) > 0
    return {
        "srcc": float(spearmanr(a, b)[0]) if varies else 0.0,
        "plcc": float(pearsonr(a, b)[0]) if varies else 0.0,
        "rmse": float(np.sqrt(np.mean((a - b) ** 2))),
    }


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the precision-recall curve of flat scores against bool truth."""
    order = np.argsort(-scores, kind="stable")
    hits = truth[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(hits.sum(), 1))
