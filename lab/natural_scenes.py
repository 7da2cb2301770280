"""Statistics of photographs for NIQE and brisque_severity; only the statistics are kept (docs/judges.md)."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from safetensors.numpy import save_file
from scipy.spatial.distance import cdist

from grefine.errors import ConfigError
from grefine.scorers.brisque_severity import severity_features
from grefine.scorers.natural_statistics import luminance, patch_features
from grefine.scorers.niqe import PATCH
from lab.world.pictures import through

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
SHARP = 0.75
"""Share of a photograph's sharpest patch from which on a patch counts (Mittal et al. 2013)."""
STARTS = (0, PATCH // 2)
VIEWS, STRENGTHS = 2, 5
"""Parts of each photograph, and copies of each per kind of distortion, each of another strength."""
VECTORS, GAMMA, RIDGE, PAIRED = 256, 0.03, 1e-5, 2.0
"""Kernels of the regression, how narrow they are, its damping, and how much more differences count than values."""
SEED = 20_130_301


def blurred(image: Image.Image, deviation: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(deviation))


def noisy(image: Image.Image, deviation: float) -> Image.Image:
    """Add white noise, the same for the same size."""
    values = np.asarray(image, dtype=np.float64)
    values = values + np.random.default_rng(SEED).normal(0, deviation, values.shape)
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def compressed(image: Image.Image, strength: float) -> Image.Image:
    """Save as JPEG of quality 100 - strength, with halved colours."""
    return through(image, "JPEG", quality=round(100 - strength), subsampling=2)


def wavelets(image: Image.Image, ratio: float) -> Image.Image:
    """Save as JPEG 2000 at a ratio of compression."""
    return through(image, "JPEG2000", irreversible=True, quality_layers=[ratio])


def sharpened(image: Image.Image, amount: float) -> Image.Image:
    """Add `amount` times what a blur by 1.5 pixels takes away."""
    return image.filter(ImageFilter.UnsharpMask(1.5, round(100 * amount), 0))


Change = Callable[[Image.Image, float], Image.Image]
DISTORTIONS: dict[Change, tuple[float, float]] = {
    blurred: (0.4, 5.0),
    noisy: (2.0, 50.0),
    compressed: (12.0, 95.0),
    wavelets: (8.0, 160.0),
    sharpened: (0.4, 5.0),
}
"""How a photograph is distorted, with the weakest and the strongest setting; steps between them grow by a ratio."""


def photographs(places: Sequence[Path]) -> dict[str, Image.Image]:
    """Read photographs by name: those of GREFINE_DATA/kodak, and of files and folders."""
    data = os.environ.get("GREFINE_DATA")
    places = [*([Path(data) / "kodak"] if data else []), *places]
    files = [path for place in places for path in (sorted(place.iterdir()) if place.is_dir() else [place])]
    files = [path for path in files if path.suffix.lower() in SUFFIXES]
    found = {"/".join(path.parts[-3:]): Image.open(path).convert("RGB") for path in files}
    if not found:
        raise ConfigError("No photographs: give --photographs a folder or a file, or set GREFINE_DATA.")
    return found


Sample = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one photograph: NIQE's features of its sharp patches `(N, 36)`; severity's features of its views, untouched and
distorted `(V, K, 38)`, the first of each view untouched; their severities `(V, K)`."""


def sample(image: Image.Image) -> Sample:
    rng = np.random.default_rng(SEED)
    views = [list(graded(view(image, rng), rng)) for _ in range(VIEWS)]
    found = np.array([[severity_features(luminance(copy)) for copy, _ in copies] for copies in views])
    return sharp_patches(image), found, np.array([[label for _, label in copies] for copies in views])


def sharp_patches(image: Image.Image) -> np.ndarray:
    """Return NIQE's features of the sharp patches, at full and half size, on grids that begin at 0 and 48 pixels."""
    kept = []
    for scale in (1, 2):
        grey = luminance(image.resize((image.width // scale, image.height // scale), Image.Resampling.LANCZOS))
        parts = [grey[top:, left:] for top in STARTS for left in STARTS]
        grids = [patch_features(part, PATCH) for part in parts if min(part.shape) >= PATCH]
        most = SHARP * max((sharpness.max() for _, sharpness in grids), default=0)
        kept += [found[sharpness > most] for found, sharpness in grids]
    return np.concatenate(kept)


def statistics(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Return what the judges are made from, by the names that they read."""
    patches, found, labels = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    return {
        "niqe.mean": patches.mean(axis=0),
        "niqe.covariance": np.cov(patches, rowvar=False),
        **{f"severity.{name}": values for name, values in severity(found, labels).items()},
    }


def severity(found: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Fit features to severities by least squares on Gaussian kernels around some of the examples.

    What a distortion adds to the untouched view counts more than the severity itself: judges compare versions.
    """
    low, high = found.min(axis=(0, 1)), found.max(axis=(0, 1))
    scaled = -1 + 2 * (found - low) / (high - low)
    flat = scaled.reshape(-1, scaled.shape[-1])
    vectors = flat[np.random.default_rng(SEED).permutation(len(flat))[:VECTORS]]
    offset = -labels.mean()
    kernel = np.exp(-GAMMA * cdist(flat, vectors, "sqeuclidean")).reshape(*labels.shape, -1)
    rows = np.concatenate([kernel, PAIRED * (kernel - kernel[:, :1])]).reshape(-1, len(vectors))
    wanted = np.concatenate([labels + offset, PAIRED * (labels - labels[:, :1])]).ravel()
    own = np.exp(-GAMMA * cdist(vectors, vectors, "sqeuclidean"))
    coefficients = np.linalg.solve(
        rows.T @ rows + RIDGE * labels.size * (own + 1e-6 * np.eye(len(own))), rows.T @ wanted
    )
    settings = np.array([GAMMA, offset])
    return {"settings": settings, "coefficients": coefficients, "vectors": vectors, "low": low, "high": high}


def graded(image: Image.Image, rng: np.random.Generator) -> Iterator[tuple[Image.Image, float]]:
    """Yield a picture with severity 0, then its distorted copies: the strongest of each kind has 100."""
    yield image, 0.0
    for change, (weakest, strongest) in DISTORTIONS.items():
        for step in range(STRENGTHS):
            share = (step + rng.random()) / STRENGTHS
            yield change(image, weakest * (strongest / weakest) ** share), 10 + 90 * share


def view(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cut out a part of up to 448 pixels, from the photograph itself or made smaller."""
    scale = rng.choice([1.0, 0.75, 0.5])
    image = image.resize([round(length * scale) for length in image.size], Image.Resampling.LANCZOS)
    width, height = (min(448, length) for length in image.size)
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def write(path: Path, statistics: dict[str, np.ndarray], names: Sequence[str]) -> None:
    """Write the statistics with a card that names the photographs."""
    card = {
        "about": "means, covariances and a regression over features of photographs; made by "
        "`python -m lab train natural-scenes`; no photograph can be got back",
        "licence": "Apache-2.0",
        "photographs": ", ".join(names),
    }
    save_file({name: values.astype(np.float32) for name, values in statistics.items()}, path, metadata=card)
