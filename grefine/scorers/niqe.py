"""NIQE: how far the statistics of a picture's patches lie from those of good photographs (Mittal et al. 2013)."""

from collections.abc import Mapping
from math import inf
from pathlib import Path

import numpy as np

from grefine.scorers.inputs import check_images
from grefine.scorers.natural_scenes import shipped
from grefine.scorers.natural_statistics import luminance, patch_features
from grefine.scorers.protocol import Images, Prompts
from grefine.types import MetricSpec, Scores

SPEC = MetricSpec(
    name="niqe",
    direction="lower",
    range=(0.0, inf),
    description="distance of 36 scene statistics from those of photographs (Mittal et al. 2013); about 3..20; "
    "our own photographs, so values differ from the release's; for natural pictures",
)
PATCH = 96


class NIQE:
    """Score by NIQE; lower is better."""

    spec = SPEC

    def __init__(self, statistics: Mapping[str, np.ndarray]) -> None:
        self.mean, self.covariance = statistics["niqe.mean"], statistics["niqe.covariance"]

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        pictures = check_images(images, "NIQE", PATCH)
        return [Scores({"niqe": self.distance(patch_features(luminance(p), PATCH)[0])}) for p in pictures]

    def distance(self, found: np.ndarray) -> float:
        """Return the distance of the patches `(N, 36)` of one picture; flat patches, which have no shape, stay out."""
        textured = found[(found[:, 1] > 0) & (found[:, 19] > 0)]
        found = textured if len(textured) else found
        own = np.cov(found, rowvar=False) if len(found) > 1 else np.zeros_like(self.covariance)
        gap = self.mean - found.mean(axis=0)
        return float(np.sqrt(gap @ np.linalg.pinv((self.covariance + own) / 2) @ gap))


def load(path: Path | None, device: str) -> NIQE:
    """Build it with the shipped statistics; it always runs on the CPU."""
    return NIQE(shipped())
