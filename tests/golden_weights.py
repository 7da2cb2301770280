"""Weights and pictures that any machine can draw again, so that parity fixtures need no shipped weights.

Every tensor comes from a generator of its own, seeded with a salt and the tensor's key, so neither the order of the
keys nor the presence of others changes it. The rules are part of the fixtures' format: they never change.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(os.environ.get("GREFINE_GOLDEN", Path(__file__).parent / "golden"))


def golden_files(pattern: str) -> list[Path]:
    """Return the parity fixtures that match, from GREFINE_GOLDEN or from tests/golden."""
    return sorted(GOLDEN.glob(pattern))


def load_golden(name: str | Path) -> dict[str, Any]:
    """Read one parity fixture by file name or path."""
    path = Path(name)
    return json.loads((path if path.is_file() else GOLDEN / path).read_text(encoding="utf-8"))


def generator(salt: str, name: str) -> np.random.Generator:
    """Return the generator that belongs to `name` under `salt`."""
    seed = hashlib.sha256(f"{salt}:{name}".encode()).digest()[:8]
    return np.random.default_rng(int.from_bytes(seed, "little"))


def reference_tensor(key: str, shape: Sequence[int], salt: str) -> np.ndarray:
    """Draw the tensor that the reference calls `key`.

    Counters are zero; running variances lie in 0.5..1.5 and running means near zero; vectors and scalars are near one
    when they are scales and near zero otherwise; everything else has unit gain (standard deviation 1/sqrt(fan-in)).
    """
    shape = tuple(int(n) for n in shape)
    rng = generator(salt, key)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    if key.endswith("running_var"):
        return (0.5 + rng.random(shape)).astype(np.float32)
    if key.endswith("running_mean"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) < 2:
        centre = 1.0 if key.endswith("weight") else 0.0
        return (centre + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    return (rng.standard_normal(shape) / np.sqrt(int(np.prod(shape[1:])))).astype(np.float32)


def reference_state(shapes: Mapping[str, Sequence[int]], salt: str) -> dict[str, np.ndarray]:
    """Draw a whole state dict from its reference keys and shapes."""
    return {key: reference_tensor(key, shape, salt) for key, shape in shapes.items()}


def reference_image(salt: str, height: int, width: int) -> np.ndarray:
    """Draw an aperiodic `(height, width, 3)` uint8 picture of waves and a little noise."""
    rng = generator(salt, f"image:{height}x{width}")
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    picture = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(4):
            (fy, fx), phase = rng.uniform(0.005, 0.12, 2).tolist(), rng.uniform(0, 6.28)
            picture[..., channel] += np.sin(fy * y + fx * x + phase)
    picture += 0.25 * rng.standard_normal(picture.shape)
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    return np.round(picture * 255).astype(np.uint8)
