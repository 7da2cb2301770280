"""NIQE: how far the statistics of a picture's patches lie from those of good photographs (Mittal et al. 2013)."""

from collections.abc import Mapping
from math import inf
from pathlib import Path

import numpy as np
from PIL import Image

from grefine.scorers.natural_statistics import luminance, patch_features, shipped
from grefine.scorers.protocol import Formula
from grefine.types import MetricSpec

SPEC = MetricSpec(
    name="niqe",
    direction="lower",
    range=(0.0, inf),
    description="distance of 36 scene statistics from those of photographs (Mittal et al. 2013); about 3..20; "
    "our own photographs, so values differ from the release's; for natural pictures",
)
PATCH = 96


def load(path: Path | None, device: str) -> Formula:
    """Build it with the shipped statistics."""
    return niqe(shipped())


def niqe(statistics: Mapping[str, np.ndarray]) -> Formula:
    """Build it with these statistics of good photographs."""

    def distance(picture: Image.Image) -> float:
        found = patch_features(luminance(picture), PATCH)[0]
        textured = found[(found[:, 1] > 0) & (found[:, 19] > 0)]  # flat patches have no shape
        found = textured if len(textured) else found
        covariance = statistics["niqe.covariance"]
        own = np.cov(found, rowvar=False) if len(found) > 1 else np.zeros_like(covariance)
        gap = statistics["niqe.mean"] - found.mean(axis=0)
        return float(np.sqrt(gap @ np.linalg.pinv((covariance + own) / 2) @ gap))

    return Formula(SPEC, distance, PATCH)
