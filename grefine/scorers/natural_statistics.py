"""Statistics of natural scenes: locally normalised luminance and the 36 features of BRISQUE (Mittal et al. 2012)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.ndimage import correlate1d
from scipy.special import gamma

if TYPE_CHECKING:
    from PIL import Image

_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))
"""Right, down and both diagonals: (rows, columns)."""


def luminance(image: Image.Image) -> np.ndarray:
    """Return `(H, W)` float64 in 0..255, weighted as MATLAB's rgb2gray does."""
    rgb = np.asarray(image.convert("RGB"), dtype=np.float64)
    return np.round(rgb @ np.array([0.298936021293775, 0.587043074451121, 0.114020904255103]))


def normalised(luminance: np.ndarray, edge: Literal["constant", "nearest"]) -> np.ndarray:
    """Return (I - mean) / (deviation + 1) of an `(H, W)` luminance in 0..255, in Gaussian windows of 7 pixels.

    Args:
        edge: what lies outside, black ("constant", as BRISQUE's release has it) or the edge itself (as PIQE has it).
    """
    offsets = np.arange(7) - 3
    window = np.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()

    def smooth(values: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(values, window, 0, mode=edge), window, 1, mode=edge)

    luminance = luminance.astype(np.float64)
    mean = smooth(luminance)
    deviation = np.sqrt(np.abs(smooth(luminance**2) - mean**2))
    return (luminance - mean) / (deviation + 1)


@cache
def _shapes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = np.arange(0.2, 10.0005, 0.001)
    symmetric = gamma(1 / shape) * gamma(3 / shape) / gamma(2 / shape) ** 2
    return shape, symmetric, 1 / symmetric


def generalised_gaussian(values: np.ndarray) -> tuple[float, float]:
    """Fit by moments and return (shape, deviation); a constant field has the largest shape."""
    shape, ratio, _ = _shapes()
    variance = float(np.mean(values**2))
    magnitude = float(np.mean(np.abs(values)))
    if magnitude == 0:
        return float(shape[-1]), 0.0
    return float(shape[np.argmin(np.abs(ratio - variance / magnitude**2))]), float(np.sqrt(variance))


def asymmetric_gaussian(values: np.ndarray) -> tuple[float, float, float, float]:
    """Fit by moments and return (shape, mean, left deviation, right deviation)."""
    shape, _, inverse = _shapes()
    left, right = values[values < 0], values[values > 0]
    left_dev = float(np.sqrt(np.mean(left**2))) if left.size else 0.0
    right_dev = float(np.sqrt(np.mean(right**2))) if right.size else 0.0
    power = float(np.mean(values**2))
    if power == 0:
        return float(shape[-1]), 0.0, 0.0, 0.0
    ratio = left_dev / right_dev if right_dev else 0.0
    moment = float(np.mean(np.abs(values))) ** 2 / power
    moment *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    found = float(shape[np.argmin((inverse - moment) ** 2)])
    scale = np.sqrt(gamma(1 / found) / gamma(3 / found))
    mean = (right_dev - left_dev) * scale * gamma(2 / found) / gamma(1 / found)
    return found, float(mean), left_dev, right_dev


def features(luminance: np.ndarray) -> np.ndarray:
    """Return the 36 features of an `(H, W)` luminance in 0..255: 18 at full size, 18 at half size.

    At each size: shape and variance of the normalised field; then shape, mean, left and right variance of its products
    with the neighbours to the right, below and along both diagonals.
    """
    found: list[float] = []
    for scale in range(2):
        field = normalised(luminance, "constant")
        shape, deviation = generalised_gaussian(field)
        found += [shape, deviation**2]
        for shift in _SHIFTS:
            shape, mean, left, right = asymmetric_gaussian(field * np.roll(field, shift, axis=(0, 1)))
            found += [shape, mean, left**2, right**2]
        if scale == 0:
            luminance = half(luminance)
    return np.array(found)


def half(luminance: np.ndarray) -> np.ndarray:
    """Return the luminance at half size, bicubic and antialiased."""
    from PIL import Image

    image = Image.fromarray(luminance.astype(np.float32))
    size = (max(1, -(-image.width // 2)), max(1, -(-image.height // 2)))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
