"""What every recipe on rated pictures states: data, optimiser, schedule, what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from grefine.errors import ConfigError
from grefine.training.datasets.splits import SplitPlan


@dataclass(frozen=True)
class Optimiser:
    """How weights move."""

    kind: Literal["adam", "adamw"] = "adamw"
    """adam adds the decay to the gradient (coupled L2), adamw shrinks the weights."""
    learning_rate: float = 1e-4
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """How the learning rate follows the steps, whatever the budget is."""

    kind: Literal["constant", "cosine-steps", "cosine-epochs", "warm-cosine"] = "constant"
    """cosine-steps, cosine-epochs: down to zero in `period` steps or epochs and up again in as many. warm-cosine: up
    in `warm` epochs, then half a cosine to zero at epoch `period`."""
    period: float = 50.0
    warm: float = 0.0


@dataclass(frozen=True)
class RatedRecipe:
    """The common part of all recipes on rated pictures."""

    geometry: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network where it is not the published one."""
    start: dict[str, str] = field(default_factory=dict)
    """What its parts begin with: folders, or timm:NAME for weights that timm fetches; others begin at random."""
    split: SplitPlan = SplitPlan("random")
    watch: Literal["validation", "test"] = "validation"
    """Which pictures choose the best weights. Published code chooses on the test pictures, which flatters it."""
    validation: float = 0.1
    """Share of the training pictures that only watch."""
    keep: Literal["best", "last"] = "best"
    batch: int = 16
    epochs: int = 0
    iterations: int = 0
    """The budget where the command line gives none: one of the two."""
    passes: int = 1
    """How often an epoch sees every picture."""
    every: int = 0
    """Steps between two looks at the watched pictures; 0: once per epoch."""
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.passes < 1:
            raise ConfigError(f"batch is {self.batch} and passes {self.passes}; both must be at least one.")
        if bool(self.epochs) == bool(self.iterations):
            raise ConfigError("A recipe states its length either in epochs or in iterations.")
        if not 0 < self.validation < 1:
            raise ConfigError(f"validation is {self.validation}; it is a share above 0 and below 1.")


BUDGET = ("epochs", "iterations", "every")
"""Settings that may differ when a run is resumed."""


def make_optimiser(settings: Optimiser, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe."""
    kind = torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW
    return kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def rate_of(settings: Schedule, per_epoch: int) -> Callable[[int], float]:
    """Return the learning-rate factor as a function of the step, counted from 0."""
    if settings.kind == "cosine-steps":
        return lambda step: _wave(step / settings.period)
    if settings.kind == "cosine-epochs":
        return lambda step: _wave(step // per_epoch / settings.period)
    if settings.kind == "warm-cosine":
        warm, whole = settings.warm * per_epoch, settings.period * per_epoch

        def rise_and_fall(step: int) -> float:
            return step / warm if step < warm else _wave(min(1.0, (step - warm) / (whole - warm)))

        return rise_and_fall
    return lambda _: 1.0


def _wave(turns: float) -> float:
    """Fall from 1 to 0 as `turns` goes to 1 and rise again to 2, as a cosine without restarts does."""
    return (1 + math.cos(math.pi * turns)) / 2
