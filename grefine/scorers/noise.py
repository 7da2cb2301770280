"""How far a judge moves where nothing visible happened: small changes to a picture, and what they say of it."""

import io
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from PIL import Image
from scipy.ndimage import correlate1d

from grefine.scorers.fidelity import psnr
from grefine.types import MetricSpec

INVISIBLE = 40.0
"""PSNR in dB that a change must keep to count as invisible."""
SMALL = 0.05
"""Share of a judge's range up to which a change is small, however noisy the judge is."""
CEILING = 0.25
"""Share of a judge's range above which its noise makes it unfit: what moves so far by itself says nothing."""


def _moved(picture: np.ndarray) -> np.ndarray | None:
    """Move the picture by one pixel, or by half a pixel where a whole one would show."""
    whole = np.pad(picture, ((1, 0), (1, 0), (0, 0)), mode="edge")[:-1, :-1]
    values = picture.astype(np.float32)
    for axis in (0, 1):
        values = correlate1d(values, np.array([-1, 9, 9, -1]) / 16, axis=axis, mode="nearest")
    return _unseen(picture, whole, np.clip(values.round(), 0, 255).astype(np.uint8))


def _saved(picture: np.ndarray) -> np.ndarray | None:
    """Save as JPEG at quality 95 with whole colours: chroma at half size is visible damage on small pictures."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=95, subsampling=0)
    return _unseen(picture, np.asarray(Image.open(out).convert("RGB")))


def _rounded(picture: np.ndarray) -> np.ndarray:
    """Add one level of noise, as another rounding would; about 50 dB for every picture."""
    levels = np.random.default_rng(0).integers(-1, 2, picture.shape)
    return np.clip(picture.astype(np.int16) + levels, 0, 255).astype(np.uint8)


def _unseen(picture: np.ndarray, *changed: np.ndarray) -> np.ndarray | None:
    return next((other for other in changed if psnr(other, picture) > INVISIBLE), None)


PROBES: dict[str, Callable[[np.ndarray], np.ndarray | None]] = {"moved": _moved, "jpeg": _saved, "rounded": _rounded}
"""Changes that nobody sees, by name; None where the change would be seen on this very picture. One always remains."""


def disturbed(picture: np.ndarray) -> list[np.ndarray]:
    """Return a picture, uint8 `(H, W, 3)`, with each change that nobody would see on it."""
    return [changed for probe in PROBES.values() if (changed := probe(picture)) is not None]


def measure_noise(original: Mapping[str, float], variants: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return how far each score moves at most when nothing visible happened."""
    variants = list(variants)
    return {name: max(abs(v[name] - value) for v in variants) for name, value in original.items()}


def metric_width(spec: MetricSpec, score: float) -> float:
    """Return the range of a metric; how large its score is (at least 1) where the range has no end or is not kept."""
    low, high = spec.range
    return high - low if math.isfinite(high - low) and low <= score <= high else max(abs(score), 1.0)
