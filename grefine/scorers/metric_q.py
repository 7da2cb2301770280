"""Metric Q: how strong and clear the local directions of a picture are; untrained (Zhu & Milanfar 2010)."""

from math import inf
from pathlib import Path

import numpy as np

from grefine.scorers.natural_statistics import luminance
from grefine.scorers.protocol import Formula
from grefine.types import MetricSpec

BLOCK = 8
CHANCE = 0.001
"""How often noise alone would pass for a direction."""
SPEC = MetricSpec(
    name="metric_q",
    range=(0.0, inf),
    description="strength of clear local directions (metric Q, Zhu & Milanfar 2010): falls with blur and with noise; "
    "needs no weights; rises with sharpening",
)


def load(path: Path | None = None, device: str = "cpu") -> Formula:
    """Build it; it needs no weights."""
    return Formula(SPEC, lambda picture: metric_q(luminance(picture)), 2 * BLOCK)


def metric_q(grey: np.ndarray) -> float:
    """Return the mean over blocks of s1 (s1 - s2) / (s1 + s2), singular values of gradients; 0 for what is noise."""
    rows, columns = (length // BLOCK for length in grey.shape)
    down, right = np.gradient(grey[: rows * BLOCK, : columns * BLOCK])
    xx, yy, xy = (
        product.reshape(rows, BLOCK, columns, BLOCK).sum(axis=(1, 3))
        for product in (right * right, down * down, right * down)
    )
    middle, spread = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    first, second = np.sqrt(middle + spread), np.sqrt(np.maximum(middle - spread, 0))
    total = first + second
    coherence = np.divide(first - second, total, out=np.zeros_like(total), where=total > 0)
    chance = CHANCE ** (1 / (BLOCK**2 - 1))
    clear = coherence > np.sqrt((1 - chance) / (1 + chance))
    return float(np.mean(first * coherence * clear))
