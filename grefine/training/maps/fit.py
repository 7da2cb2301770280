"""What both maps' fits share: settings, the error on opinions, what is measured, and the run with its record."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from grefine.evaluate.correlation import plcc, srcc
from grefine.training.datasets.splits import SplitPlan
from grefine.training.loop import Budget, Record, train
from grefine.training.losses import correlation_loss
from grefine.training.maps.opinions import Opinions, OpinionSource


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


@dataclass(frozen=True)
class Fit:
    """One run: where it goes, from what, and for how long."""

    name: str
    out: Path
    source: OpinionSource
    settings: Any
    budget: Budget
    accelerator: Accelerator
    identity: dict[str, Any] = field(default_factory=dict)
    """What a run that goes on must share beside the settings."""

    def run(
        self,
        parameters: Sequence[nn.Parameter],
        losses: Callable[[Opinions], dict[str, Tensor]],
        evaluate: Callable[[], dict[str, float]],
        save: Callable[[], None],
    ) -> Record:
        """Train, or go on training, and return the record, whose first row is of before."""
        record = Record.load(self.out / "training", self.name)
        batch, offset = self.settings.batch, record.samples // self.settings.batch
        if not record.rows:
            record.rows.append({"step": 0, "samples": 0, "cpu_seconds": 0.0} | evaluate())
        train(
            lambda number: losses(self.source.draw(offset + number, batch)),
            [torch.optim.Adam(parameters, self.settings.learning_rate, weight_decay=self.settings.weight_decay)],
            self.budget,
            record,
            settings=asdict(self.settings) | self.identity,
            evaluate=evaluate,
            save=save,
            batch=batch,
            accelerator=self.accelerator,
        )
        return record
