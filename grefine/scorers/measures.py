"""One property each, by a short formula: blur, noise and colourfulness. They describe a picture and judge nothing."""

from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image
from scipy.ndimage import correlate, sobel, uniform_filter1d

from grefine.scorers.inputs import check_images
from grefine.scorers.natural_statistics import luminance
from grefine.scorers.protocol import Images, Prompts
from grefine.types import MetricSpec, Scores

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


Formula = Callable[[Image.Image], float]
MEASURES: dict[Formula, MetricSpec] = {
    blur: MetricSpec(
        "blur_effect", "lower", (0.0, 1.0), axis="none", description="loss of edges to blur (Crété 2007)"
    ),
    noise: MetricSpec(
        "noise_level", "lower", (0.0, inf), axis="none", description="deviation of noise (Immerkær 1996)"
    ),
    colourfulness: MetricSpec(
        "colourfulness", range=(0.0, inf), axis="none", description="strength of colours (Hasler & Süsstrunk 2003)"
    ),
}


class Measure:
    """Report one property of each picture."""

    def __init__(self, measure: Formula, spec: MetricSpec) -> None:
        self.measure, self.spec = measure, spec

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        pictures = check_images(images, self.spec.name, WINDOW)
        return [Scores({self.spec.name: self.measure(picture)}) for picture in pictures]


def load(measure: Formula, path: Path | None, device: str) -> Measure:
    """Build one; they need no weights and always run on the CPU."""
    return Measure(measure, MEASURES[measure])


JUDGES = tuple(SimpleNamespace(SPEC=spec, load=partial(load, measure)) for measure, spec in MEASURES.items())
