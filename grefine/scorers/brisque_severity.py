"""BRISQUE's 36 features and two of gradients, fitted to how strongly photographs were distorted; no opinions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from grefine.scorers.brisque import MINIMUM, Regression
from grefine.scorers.natural_statistics import features, gradient_features, luminance, shipped
from grefine.scorers.protocol import Formula
from grefine.types import MetricSpec

SPEC = MetricSpec(
    name="brisque_severity",
    direction="lower",
    range=(0.0, 100.0),
    version="2",
    description="BRISQUE's features and two of gradients fitted to the strength of blur, noise, JPEG, JPEG 2000 and "
    "sharpening on photographs: 0 untouched, 100 strongest; not the published BRISQUE; for natural pictures",
)


def load(path: Path | None, device: str) -> Formula:
    """Build it with the shipped regression."""
    return severity(shipped())


def severity(statistics: Mapping[str, np.ndarray]) -> Formula:
    """Build it with the regression in these statistics."""
    start = "severity."
    parts = {name.removeprefix(start): part for name, part in statistics.items() if name.startswith(start)}
    gamma, offset = parts.pop("settings")
    regression = Regression(float(gamma), float(offset), **parts)
    predict = lambda picture: regression.predict(severity_features(luminance(picture)))  # noqa: E731
    return Formula(SPEC, lambda picture: min(100.0, max(0.0, predict(picture))), MINIMUM)


def severity_features(grey: np.ndarray) -> np.ndarray:
    """Return what the regression reads of an `(H, W)` luminance in 0..255: 36 features and 2."""
    return np.concatenate([features(grey), gradient_features(grey)])
