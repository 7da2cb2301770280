"""What both maps' fits share: settings, the error on opinions, and what is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from grefine.evaluate.correlation import plcc, srcc
from grefine.training.datasets.splits import SplitPlan
from grefine.training.losses import correlation_loss
from grefine.training.maps.opinions import Opinions


@dataclass(frozen=True)
class FitSettings:
    """How a map is fitted (configs/train/pq, configs/train/aq)."""

    batch: int = 32
    epochs: int = 50
    """Over a table; the toy world has no end and needs a budget."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    order_weight: float = 0.5
    """Of (1 - correlation) / 2 beside the mean squared error."""
    split: SplitPlan = field(default_factory=lambda: SplitPlan("random", 0.9))
    """Which pictures of a table only measure."""
    seed: int = 0


def errors(found: Tensor, opinions: Tensor, order_weight: float) -> dict[str, Tensor]:
    losses = {"mse": F.mse_loss(found, opinions)}
    losses["loss"] = losses["mse"]
    if order_weight and len(opinions) > 1:
        losses["order"] = correlation_loss(found, opinions)
        losses["loss"] = losses["loss"] + order_weight * losses["order"]
    return losses


def agreement(scores: Tensor, opinions: Tensor) -> dict[str, float]:
    """Return rank and linear correlation (0 where either does not vary) and the root of the mean squared error."""
    a, b = scores.double().numpy(), opinions.double().numpy()
    found = {"srcc": srcc(a, b), "plcc": plcc(a, b), "rmse": float(np.sqrt(np.mean((a - b) ** 2)))}
    return {name: 0.0 if np.isnan(value) else value for name, value in found.items()}


class Fit(NamedTuple):
    """What a map's fit moves, and how."""

    part: Any
    """The component that is kept."""
    parameters: Sequence[nn.Parameter]
    losses: Callable[[Opinions], dict[str, Tensor]]
    """Of a batch by name; "loss" is minimised."""
    evaluate: Callable[[], dict[str, float]]
    """What it is worth on what is never trained on."""
