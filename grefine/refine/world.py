"""Is a picture of the world that a pipeline was trained on? One stated test, and a refusal that says what to use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from grefine.config import build
from grefine.errors import WorldMismatch
from grefine.refine.composite import resize
from grefine.refine.vae import roundtrip


@dataclass(frozen=True)
class World:
    """What a pipeline knows, as its `model_index.json` states it.

    The test: a VAE trained on one world reproduces its pictures and little else. The picture is brought to the working
    size; the mean absolute error of one round trip through the VAE must not exceed `max_roundtrip`, a quantile
    measured on pictures of that world, damaged ones included.
    """

    name: str
    max_roundtrip: float
    """In 0..1 units of brightness."""
    instead: str = "sdxl"
    """The pipeline to use for everything else."""


def read_world(values: Mapping[str, Any] | None) -> World | None:
    """Read the pipeline's own statement; None: it knows no bounds."""
    return None if values is None else build(World, dict(values), "world")


def roundtrip_error(vae: Any, image: np.ndarray, side: int, device: torch.device) -> float:
    """Return the mean absolute change (0..1) that one pass through the VAE makes at the working size."""
    small = resize(image, side, side)
    picture = torch.from_numpy(np.array(small, dtype=np.float32)).permute(2, 0, 1)[None] / 255.0
    return float((roundtrip(vae, picture, device) - picture).abs().mean())


def check_world(world: World | None, vae: Any, image: np.ndarray, side: int, device: torch.device) -> None:
    """Refuse a picture that is not of the pipeline's world.

    Raises:
        WorldMismatch: it is not; the sentence names the pipeline to use instead.
    """
    if world is None:
        return
    error = roundtrip_error(vae, image, side, device)
    if error > world.max_roundtrip:
        raise WorldMismatch(
            f"This picture is not of the world that this pipeline knows ('{world.name}'): its VAE reproduces it with "
            f"an error of {error:.3f}, and pictures of that world stay below {world.max_roundtrip:.3f}. Use the "
            f"pipeline '{world.instead}', or pass force=True (--force) to refine it anyway."
        )
