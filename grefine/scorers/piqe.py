"""PIQE: how much of the busy part of a picture is visibly distorted; untrained (Venkatanath et al. 2015)."""

from pathlib import Path

import numpy as np

from grefine.scorers.natural_statistics import blocks, luminance, normalised
from grefine.scorers.protocol import Formula
from grefine.types import MetricSpec

SPEC = MetricSpec(
    name="piqe",
    direction="lower",
    range=(0.0, 100.0),
    licence="Apache-2.0",
    description="block-wise distortion without any training (Venkatanath et al. 2015); needs no weights",
)
BLOCK, SEGMENT = 16, 6
ACTIVE = 0.1
"""Variance of a block above which people look at it."""
FLAT = 0.1
"""Deviation of an edge segment below which the block shows a coding artefact."""
CONSTANT = 1.0


def load(path: Path | None = None, device: str = "cpu") -> Formula:
    """Build it; it needs no weights."""
    return Formula(SPEC, lambda picture: piqe(luminance(picture)), BLOCK)


def piqe(grey: np.ndarray) -> float:
    """Return the score of an `(H, W)` luminance in 0..255: 0 is best, 100 without any busy block."""
    height, width = grey.shape
    grey = np.pad(grey, ((0, -height % BLOCK), (0, -width % BLOCK)), mode="edge")
    squares = blocks(normalised(grey, "nearest")[0], BLOCK)
    variance = squares.var(axis=(1, 2), ddof=1)
    busy = variance > ACTIVE
    damage = 0.0
    for block, spread in zip(squares[busy], variance[busy], strict=True):
        artefact, noise = _coded(block), _noisy(block, spread)
        if artefact:
            damage += 1 - spread if not noise else 1.0
        elif noise:
            damage += spread
    return float((damage + CONSTANT) / (busy.sum() + CONSTANT) * 100)


def _coded(block: np.ndarray) -> bool:
    """Say whether any stretch of six pixels along an edge of the block is flat."""
    edges = np.stack([block[0], block[-1], block[:, 0], block[:, -1]])
    stretches = np.lib.stride_tricks.sliding_window_view(edges, SEGMENT, axis=1)
    return bool((stretches.std(axis=-1, ddof=1) < FLAT).any())


def _noisy(block: np.ndarray, variance: float) -> bool:
    """Say whether the middle of the block (columns 8 and 9) and its surround differ as those of noise do."""
    deviation = np.sqrt(variance)
    middle = block[:, BLOCK // 2 - 1 : BLOCK // 2 + 1]
    # The MATLAB release takes columns 8 and 10 out of the surround, a slip of its index.
    surround = np.delete(block, (BLOCK // 2 - 1, BLOCK // 2), axis=1)
    ratio = middle.std(ddof=1) / surround.std(ddof=1) if surround.std() else 0.0
    beta = abs(deviation - ratio) / max(deviation, ratio)
    return bool(deviation > 2 * beta)
