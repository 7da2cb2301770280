"""Statistics of natural scenes: locally normalised luminance and the features of BRISQUE and NIQE (Mittal et al.)."""

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy.ndimage import correlate1d
from scipy.special import gamma

FILE = Path(__file__).with_name("natural_scenes.safetensors")
"""Statistics of photographs for NIQE and brisque_severity, by `python -m lab train natural-scenes`. Its metadata names
the photographs and the terms; no photograph can be got back from it.
"""
_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))
"""Right, down and both diagonals: (rows, columns)."""


@cache
def shipped() -> dict[str, np.ndarray]:
    """Return the statistics of photographs by name, as float64."""
    from safetensors.numpy import load_file

    return {name: values.astype(np.float64) for name, values in load_file(FILE).items()}


def luminance(image: Image.Image) -> np.ndarray:
    """Return `(H, W)` float64 in 0..255, weighted as MATLAB's rgb2gray does."""
    rgb = np.asarray(image.convert("RGB"), dtype=np.float64)
    return np.round(rgb @ np.array([0.298936021293775, 0.587043074451121, 0.114020904255103]))


def normalised(luminance: np.ndarray, edge: Literal["constant", "nearest"]) -> tuple[np.ndarray, np.ndarray]:
    """Return (I - mean) / (deviation + 1) of an `(H, W)` luminance, and the deviation, in Gaussian windows."""
    offsets = np.arange(7) - 3
    window = np.exp(-(offsets**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()

    def smooth(values: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(values, window, 0, mode=edge), window, 1, mode=edge)

    luminance = luminance.astype(np.float64)
    mean = smooth(luminance)
    deviation = np.sqrt(np.abs(smooth(luminance**2) - mean**2))
    return (luminance - mean) / (deviation + 1), deviation


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


def asymmetric_gaussian(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit by moments along the last axis and return (shape, mean, left deviation, right deviation)."""
    shape, _, inverse = _shapes()
    squares = values**2

    def deviation(side: np.ndarray) -> np.ndarray:
        return np.sqrt(np.sum(squares, axis=-1, where=side) / np.maximum(side.sum(axis=-1), 1))

    left, right = deviation(values < 0), deviation(values > 0)
    power = squares.mean(axis=-1)
    ratio = left / np.where(right > 0, right, np.inf)
    moment = np.abs(values).mean(axis=-1) ** 2 / np.where(power > 0, power, np.nan)
    moment = moment * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    above = np.searchsorted(inverse, np.nan_to_num(moment, nan=np.inf)).clip(1, len(shape) - 1)
    found = shape[above - (moment - inverse[above - 1] <= inverse[above] - moment)]
    return found, (right - left) * _scale(found) * gamma(2 / found) / gamma(1 / found), left, right


def _scale(shape: np.ndarray) -> np.ndarray:
    """Return what turns the deviation of one side into the width of the density with that shape."""
    return np.sqrt(gamma(1 / shape) / gamma(3 / shape))


def features(luminance: np.ndarray) -> np.ndarray:
    """Return the 36 features of BRISQUE of an `(H, W)` luminance in 0..255: 18 at full size, 18 at half size."""
    found: list[np.ndarray | float] = []
    for scale in range(2):
        field, _ = normalised(luminance, "constant")
        shape, deviation = generalised_gaussian(field)
        found += [shape, deviation**2]
        for shift in _SHIFTS:
            shape, mean, left, right = asymmetric_gaussian((field * np.roll(field, shift, axis=(0, 1))).ravel())
            found += [shape, mean, left**2, right**2]
        if scale == 0:
            luminance = half(luminance)
    return np.array(found)


def gradient_features(luminance: np.ndarray) -> np.ndarray:
    """Return how much neighbours of an `(H, W)` luminance differ (a logarithm), how often that changes sign."""
    steps = [np.diff(values, axis=1) for values in (luminance, luminance.T)]
    height = np.mean([np.abs(one).mean() for one in steps])
    changes = [(np.sign(one[:, :-1]) * np.sign(one[:, 1:]) < 0).mean() for one in steps]
    return np.array([np.log(height + 0.1), np.mean(changes)])


def patch_features(luminance: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return NIQE's 36 features of every whole patch `(N, 36)` of an `(H, W)` luminance, and its sharpness `(N,)`."""
    luminance = luminance[: luminance.shape[0] // side * side, : luminance.shape[1] // side * side]
    found, sharpness = [], np.empty(0)
    for length in (side, side // 2):
        field, deviation = normalised(luminance, "nearest")
        patches = blocks(field, length)
        shape, _, left, right = _asymmetric_widths(patches)
        found += [shape, (left + right) / 2]
        for shift in _SHIFTS:
            found += _asymmetric_widths(patches * np.roll(patches, shift, axis=(1, 2)))
        if length == side:
            sharpness = blocks(deviation, side).mean(axis=(1, 2))
            luminance = half(luminance)
    return np.stack(found, axis=1), sharpness


def _asymmetric_widths(patches: np.ndarray) -> tuple[np.ndarray, ...]:
    shape, mean, left, right = asymmetric_gaussian(patches.reshape(len(patches), -1))
    return shape, mean, left * _scale(shape), right * _scale(shape)


def blocks(field: np.ndarray, side: int) -> np.ndarray:
    """Return the squares `(N, side, side)` of a field whose sides are multiples of `side`."""
    rows, columns = (length // side for length in field.shape)
    return field.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


def half(luminance: np.ndarray) -> np.ndarray:
    """Return the luminance at half size, bicubic and antialiased."""
    image = Image.fromarray(luminance.astype(np.float32))
    size = (max(1, -(-image.width // 2)), max(1, -(-image.height // 2)))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
