"""One property each, by a short formula: blur, noise and colourfulness. They describe a picture and judge nothing."""

from math import inf
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import correlate, sobel, uniform_filter1d

from grefine.scorers.natural_statistics import luminance
from grefine.scorers.protocol import Formula
from grefine.types import MetricSpec

WINDOW = 11
_LAPLACIANS = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])


def blur(image: Image.Image) -> float:
    """Return how little neighbouring pixels differ less after a blur; 0 sharp, 1 blurred (Crété et al. 2007)."""
    grey = luminance(image)
    inside = (slice(2, -1), slice(2, -1))
    shares = []
    for axis in (0, 1):
        sharp = np.abs(sobel(grey, axis))
        smooth = np.abs(sobel(uniform_filter1d(grey, WINDOW, axis), axis))
        lost = np.maximum(sharp - smooth, 0)[inside].sum()
        total = sharp[inside].sum()
        shares.append((total - lost) / total if total else 1.0)
    return float(max(shares))


def noise(image: Image.Image) -> float:
    """Return the deviation of white noise in levels of 255, if what is left of edges were noise (Immerkær 1996)."""
    left = correlate(luminance(image), _LAPLACIANS)[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(left).mean())


def colourfulness(image: Image.Image) -> float:
    """Return spread and strength of the opponent colours (Hasler & Süsstrunk 2003); 0 is grey, above 80 is vivid."""
    red, green, blue = np.moveaxis(np.asarray(image, dtype=np.float64), -1, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue]).reshape(2, -1)
    return float(np.hypot(*opponents.std(axis=1)) + 0.3 * np.hypot(*opponents.mean(axis=1)))


def _spec(name: str, description: str, **more: Any) -> MetricSpec:
    return MetricSpec(name, axis="none", description=description, **more)


MEASURES = (
    (blur, _spec("blur_effect", "loss of edges to blur (Crété 2007)", direction="lower", range=(0.0, 1.0))),
    (noise, _spec("noise_level", "deviation of noise (Immerkær 1996)", direction="lower", range=(0.0, inf))),
    (colourfulness, _spec("colourfulness", "strength of colours (Hasler & Süsstrunk 2003)", range=(0.0, inf))),
)
JUDGES = tuple(
    SimpleNamespace(SPEC=spec, load=lambda path, device, spec=spec, formula=formula: Formula(spec, formula, WINDOW))
    for formula, spec in MEASURES
)
