"""How far an image moved from its input. These say what changed, never whether it became better."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from grefine.types import MetricSpec

IDENTICAL_PSNR = 100.0
"""PSNR of two identical images, finite so that means stay numbers."""


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB over all channels, of uint8 arrays `(H, W, 3)`; at most 100."""
    error = np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return IDENTICAL_PSNR if error == 0 else min(IDENTICAL_PSNR, 10 * math.log10(255.0**2 / error))


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the structural similarity of the luminance (Wang et al. 2004: Gaussian window, sigma 1.5, 11 pixels)."""
    from scipy.ndimage import gaussian_filter

    x, y = _luminance(image), _luminance(reference)

    def blur(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, sigma=1.5, truncate=3.5, mode="reflect")

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    value = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    value /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    margin = 5 if min(x.shape) > 10 else 0
    return float(value[margin : value.shape[0] - margin, margin : value.shape[1] - margin].mean())


def changed(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the share of pixels that differ by more than 2 of 255 levels in any channel."""
    return float((np.abs(image.astype(np.int16) - reference.astype(np.int16)).max(axis=2) > 2).mean())


def _luminance(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64) @ (0.299, 0.587, 0.114)


_spec = partial(MetricSpec, needs_reference=True)
FIDELITY: dict[str, tuple[MetricSpec, Callable[[np.ndarray, np.ndarray], float]]] = {
    "psnr": (_spec("psnr", range=(0.0, IDENTICAL_PSNR), description="PSNR to the input in dB; 100 = identical"), psnr),
    "ssim": (_spec("ssim", range=(-1.0, 1.0), description="SSIM of the luminance to the input; 1 = identical"), ssim),
    "changed": (_spec("changed", "lower", description="share of pixels that changed by more than 2 of 255"), changed),
}
"""Measures of change by name; each compares an image with its input and needs no weights."""


def compare(name: str, image: Image.Image, reference: Image.Image) -> float:
    """Return measure `name` of `image` against its input, to whose size it is first brought (Lanczos)."""
    if image.size != reference.size:
        image = image.convert("RGB").resize(reference.size, Image.Resampling.LANCZOS)
    return FIDELITY[name][1](np.asarray(image.convert("RGB")), np.asarray(reference.convert("RGB")))
