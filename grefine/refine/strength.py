"""How strongly to denoise, and how many steps that takes, counted as executed."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch

from grefine.errors import ConfigError
from grefine.refine.settings import STRENGTH_CAP
from grefine.types import RegionKind

STRENGTHS = {"noun": 0.9, "attribute": 0.7}
"""Of regions that are drawn anew, by kind."""
LEAST = 0.3
"""Least strength of a region."""
STEP = 0.05
"""Strengths are rounded to multiples of it, so that crops share a schedule."""


def deficit(p: float, a: float | None) -> float:
    """Return one strength for the whole image from both scores.

    The printed factor (p + a) / 2 would repaint the best images hardest, against the aim of keeping what is good; read
    as the share of the original that is kept, its complement is the strength. (Eq. 9)
    """
    return _stepped(1.0 - (p if a is None else (p + a) / 2))


def region_strength(kind: RegionKind, badness: float) -> float:
    """Return a region's strength: what must be drawn anew needs most, what only looks bad as much as it is bad.

    Args:
        kind: why the region is repainted.
        badness: mean of 1 - P over the region.
    """
    return _stepped(max(STRENGTHS.get(kind, badness), LEAST))


def _stepped(value: float) -> float:
    return round(min(max(round(value / STEP) * STEP, STEP), STRENGTH_CAP), 6)


def choose_timesteps(scheduler: Any, steps: int, strength: float, device: Any) -> tuple[torch.Tensor, int]:
    """Set the scheduler up and return the timesteps to run and how many steps they are.

    Diffusion pipelines drop steps with strength, so running n of them at strength s needs a schedule of ceil(n / s).
    Schedulers made for few steps spread their own over the asked strength instead.

    Raises:
        ConfigError: the scheduler cannot run that many steps at that strength.
    """
    name = type(scheduler).__name__
    if not 0.0 < strength <= 1.0:
        raise ConfigError(f"strength must lie above 0 and up to 1, not {strength}.")
    total = math.ceil(steps / strength - 1e-9)
    trained = int(scheduler.config.get("num_train_timesteps", 1000))
    if total > trained:
        raise ConfigError(
            f"{steps} steps at strength {strength:g} need a schedule of {total}, but {name} has {trained} timesteps: "
            f"ask for at most {int(trained * strength)} steps, or raise the strength."
        )
    spreads = "strength" in inspect.signature(scheduler.set_timesteps).parameters
    try:
        if spreads:
            scheduler.set_timesteps(steps, device=device, strength=strength)
            return scheduler.timesteps, steps
        scheduler.set_timesteps(total, device=device)
    except (ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"{name} cannot run {steps} steps at strength {strength:g}: {error}") from error
    order = getattr(scheduler, "order", 1)
    begin = (total - steps) * order
    timesteps = scheduler.timesteps[begin:]
    if len(timesteps) < steps:
        raise ConfigError(
            f"{name} offers {len(timesteps)} of the {steps} steps asked for at strength {strength:g}: ask for fewer."
        )
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    return timesteps, steps
