"""BRISQUE's 36 features and two of gradients, fitted to how strongly photographs were distorted; no opinions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from grefine.scorers.brisque import MINIMUM, Regression
from grefine.scorers.inputs import check_images
from grefine.scorers.natural_scenes import shipped
from grefine.scorers.natural_statistics import features, gradient_features, luminance
from grefine.scorers.protocol import Images, Prompts
from grefine.types import MetricSpec, Scores

NAME = "brisque_severity"
SPEC = MetricSpec(
    name=NAME,
    direction="lower",
    range=(0.0, 100.0),
    version="2",
    description="BRISQUE's features and two of gradients fitted to the strength of blur, noise, JPEG, JPEG 2000 and "
    "sharpening on photographs: 0 untouched, 100 strongest; not the published BRISQUE; for natural pictures",
)


class BRISQUESeverity:
    """Score by the regression on severity; lower is better."""

    spec = SPEC

    def __init__(self, statistics: Mapping[str, np.ndarray]) -> None:
        start = "severity."
        parts = {name.removeprefix(start): part for name, part in statistics.items() if name.startswith(start)}
        gamma, offset = parts.pop("settings")
        self.regression = Regression(float(gamma), float(offset), **parts)

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        pictures = check_images(images, NAME, MINIMUM)
        found = [self.regression.predict(severity_features(luminance(picture))) for picture in pictures]
        return [Scores({NAME: min(100.0, max(0.0, value))}) for value in found]


def severity_features(grey: np.ndarray) -> np.ndarray:
    """Return what the regression reads of an `(H, W)` luminance in 0..255: 36 features and 2."""
    return np.concatenate([features(grey), gradient_features(grey)])


def load(path: Path | None, device: str) -> BRISQUESeverity:
    """Build it with the shipped regression; it always runs on the CPU."""
    return BRISQUESeverity(shipped())
