"""How strongly to denoise, and how many steps that takes, counted as executed."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch

from grefine.errors import ConfigError
from grefine.refine.settings import STRENGTH_CAP, RefineConfig
from grefine.types import RegionKind

FEW_STEP = ("LCMScheduler", "TCDScheduler")


def deficit(p: float, a: float | None, config: RefineConfig) -> float:
    """Return one strength for the whole image from both scores.

    The printed factor (p + a) / 2 would repaint the best images hardest, against the aim of keeping what is good; read
    as the share of the original that is kept, its complement is the strength. `literal` is the print. (Eq. 9)
    """
    quality = p if a is None else (p + a) / 2
    share = quality if config.strength_mode == "literal" else 1.0 - quality
    return _clip(share, config)


def region_strength(kind: RegionKind, badness: float, config: RefineConfig) -> float:
    """Return a region's strength: what must be drawn anew needs most, what only looks bad as much as it is bad.

    Args:
        kind: why the region is repainted.
        badness: mean of 1 - P over the region.
        config: the settings.
    """
    floors = {"noun": config.strength_noun, "attribute": config.strength_attribute}
    return _clip(max(floors.get(kind, 0.0), badness if kind in ("perceptual", "user") else 0.0), config)


def _clip(value: float, config: RefineConfig) -> float:
    bounded = min(max(value, config.strength_min), config.strength_max)
    stepped = round(bounded / config.strength_step) * config.strength_step
    return round(min(max(stepped, config.strength_step), STRENGTH_CAP), 6)


def choose_timesteps(
    scheduler: Any, steps: int, strength: float, device: Any, mode: str = "executed"
) -> tuple[torch.Tensor, int]:
    """Set the scheduler up and return the timesteps to run and how many steps they are.

    Diffusion pipelines drop steps with strength, so running n of them at strength s needs a schedule of ceil(n / s).
    Schedulers made for few steps spread their own over the asked strength instead.

    Raises:
        ConfigError: the scheduler cannot run that many steps at that strength.
    """
    name = type(scheduler).__name__
    if not 0.0 < strength <= 1.0:
        raise ConfigError(f"strength must lie above 0 and up to 1, not {strength}.")
    if mode == "schedule":
        total = steps
        steps = max(1, int(steps * strength + 1e-9))
    else:
        total = math.ceil(steps / strength - 1e-9)
    trained = int(scheduler.config.get("num_train_timesteps", 1000))
    if total > trained:
        raise ConfigError(
            f"{steps} steps at strength {strength:g} need a schedule of {total}, but {name} has {trained} timesteps: "
            f"ask for at most {int(trained * strength)} steps, or raise the strength."
        )
    spreads = "strength" in inspect.signature(scheduler.set_timesteps).parameters
    try:
        if spreads and mode == "executed":
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
