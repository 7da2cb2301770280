"""How strongly to denoise, and how many steps that takes, counted as executed."""

import inspect
import math
from contextlib import suppress
from typing import Any, Literal

import torch

from grefine.errors import ConfigError
from grefine.refine.settings import STRENGTH_CAP, StepsMode, Strengths
from grefine.types import RegionKind

STEP = 0.05
"""Strengths are rounded to multiples of it, so that crops share a schedule."""


def one_strength(p: float, a: float | None, reading: Literal["kept", "printed"]) -> float:
    """Return one strength for the whole image from both scores, between what steps fit below and `STRENGTH_CAP`.

    The printed factor (p + a) / 2 repaints the best images hardest, against the aim of keeping what is good; read
    as the share of the original that is kept, its complement is the strength. (Eq. 9)
    """
    mean = p if a is None else (p + a) / 2
    return min(max(mean if reading == "printed" else 1.0 - mean, STEP), STRENGTH_CAP)


def region_strength(kind: RegionKind, badness: float, strengths: Strengths) -> float:
    """Return a region's strength: what must be drawn anew needs most, what only looks bad as much as it is bad."""
    anew = {"noun": strengths.noun, "attribute": strengths.attribute}
    if kind in anew:
        return anew[kind]
    stepped = round(max(badness, strengths.least) / STEP) * STEP
    return round(min(max(stepped, STEP), strengths.most), 6)


def choose_timesteps(
    scheduler: Any, steps: int, strength: float, device: Any, mode: StepsMode = "executed"
) -> tuple[torch.Tensor, int]:
    """Set the scheduler up and return the timesteps to run and how many steps they are.

    In `mode` "noise" all of the steps run, and they begin at the noise of timestep strength x trained timesteps,
    whatever the scheduler and the steps. "executed": all of them run, as the end of the scheduler's own schedule of
    ceil(steps / strength), which begins at less noise the fewer they are. "schedule": that many make the schedule, of
    which strength runs a share, as in diffusers.
    """
    name, trained = type(scheduler).__name__, int(scheduler.config.get("num_train_timesteps", 1000))
    if not 0.0 < strength <= 1.0:
        raise ConfigError(f"strength must lie above 0 and up to 1, not {strength}.")
    first, total = min(max(round(strength * trained) - 1, 1), trained - 1), steps
    if mode == "schedule":
        steps = max(1, int(steps * strength + 1e-9))
    elif mode == "executed":
        total = math.ceil(steps / strength - 1e-9)
    elif steps > first:
        raise ConfigError(
            f"{steps} steps do not fit below strength {strength:g}, where {name} has {first} timesteps: ask for at "
            f"most {first} steps, or raise the strength."
        )
    if total > trained:
        raise ConfigError(
            f"{steps} steps at strength {strength:g} need a schedule of {total}, but {name} has {trained} timesteps: "
            f"ask for at most {int(trained * strength)} steps, or raise the strength."
        )
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    try:
        if "strength" in accepted and mode != "schedule":  # made for few steps: they spread their own over it
            scheduler.set_timesteps(steps, device=device, strength=strength)
            return scheduler.timesteps, steps
        if mode == "noise":
            return _from_noise(scheduler, steps, first, device, "timesteps" in accepted), steps
        scheduler.set_timesteps(total, device=device)
    except (ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"{name} cannot run {steps} steps at strength {strength:g}: {error}") from error
    timesteps = _begin(scheduler, (total - steps) * getattr(scheduler, "order", 1))
    if len(timesteps) < steps:
        raise ConfigError(
            f"{name} offers {len(timesteps)} of the {steps} steps asked for at strength {strength:g}: ask for fewer."
        )
    return timesteps, steps


def _from_noise(scheduler: Any, steps: int, first: int, device: Any, takes_timesteps: bool) -> torch.Tensor:
    """Set a scheduler up for `steps` steps, evenly spread below the timestep `first`.

    One that takes no timesteps uses the end of that schedule of its own which begins nearest below it.
    """
    if takes_timesteps:
        wanted = [round(first * (steps - index) / steps) for index in range(steps)]
        with suppress(ValueError, NotImplementedError):  # e.g. Karras' sigmas, which take no timesteps of one's own
            scheduler.set_timesteps(timesteps=wanted, device=device)
            return _begin(scheduler, 0)
    if scheduler.config.get("timestep_spacing") == "leading":  # whose first step lies a whole step below the top
        scheduler.register_to_config(timestep_spacing="trailing")
    trained = int(scheduler.config.get("num_train_timesteps", 1000))
    order = getattr(scheduler, "order", 1)

    def begins(total: int) -> float:
        scheduler.set_timesteps(total, device=device)
        return float(scheduler.timesteps[(total - steps) * order])

    # A longer schedule begins its last steps lower; a shorter one than the steps there is none.
    low, high = steps, min(trained, math.ceil(2 * steps * trained / first))
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if begins(middle) > first else (low, middle)
    begins(low)
    return _begin(scheduler, (low - steps) * order)


def _begin(scheduler: Any, index: int) -> torch.Tensor:
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(index)
    return scheduler.timesteps[index:]
