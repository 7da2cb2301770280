"""What fits to opinion scores share: settings, pictures with opinions, their table, the error, what is measured."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grefine.errors import ConfigError
from grefine.evaluate.correlation import plcc, srcc
from grefine.io.content import content_hash
from grefine.io.images import read_image
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import FACTORS
from grefine.training.datasets.published import read_data
from grefine.training.datasets.rated import MOS, SplitPlan, split
from grefine.training.datasets.table import read_table
from grefine.training.losses import correlation_loss

CHUNK = 32
"""Pictures per forward pass outside training steps."""


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


@dataclass(frozen=True)
class Opinions:
    """A batch of pictures and of opinions about them (or about a picture and a prompt)."""

    keys: tuple[str, ...]
    """What each picture is remembered by; empty where no picture comes twice."""
    look: Callable[[Sequence[int]], Tensor]
    """Gives the pixels of some of the pictures as CLIP wants them, `(n, 3, S, S)`."""
    count: int
    image_of: Tensor
    """`(P,)` long, the picture that each opinion is about."""
    opinions: Tensor
    """`(P,)` in 0..1, high = good."""
    factors: Tensor
    """`(P, 3)` technical, rational and natural quality in 0..1, NaN where nobody said."""
    prompts: tuple[str, ...] = ()
    damage: Tensor | None = None
    """`(B, H, W)` bool where the picture is truly bad, if that is known."""

    def parts(self) -> "list[Opinions]":
        """Cut into batches of at most `CHUNK` pictures, each with the opinions about them."""
        found = []
        for first in range(0, self.count, CHUNK):
            end = min(first + CHUNK, self.count)
            rows = ((self.image_of >= first) & (self.image_of < end)).nonzero()[:, 0]
            part = Opinions(
                self.keys[first:end],
                lambda chosen, first=first: self.look([first + row for row in chosen]),
                end - first,
                self.image_of[rows] - first,
                self.opinions[rows],
                self.factors[rows],
                tuple(self.prompts[int(row)] for row in rows),
            )
            found.append(part)
        return found


class OpinionSource(Protocol):
    identity: str
    """What changes when the data do, so that nobody goes on from other data by mistake."""
    size: int | None
    """Opinions to train on; None for an endless source."""

    def draw(self, number: int, count: int) -> Opinions:
        """Return training batch `number`; the same for a number every time."""
        ...

    def held_out(self) -> Opinions:
        """Return what is never trained on."""
        ...


ALIGNMENT = "alignment"
"""Column with opinions on alignment, where `mos` is about quality."""


class RatedTable:
    """Batches from a table: every opinion once per epoch, in an order that the seed and the epoch fix."""

    def __init__(
        self,
        clip: ClipSurgery,
        path: str | Path,
        images: str | Path | None = None,
        *,
        seed: int = 0,
        plan: SplitPlan = SplitPlan("random", 0.9),  # noqa: B008 - frozen
        prompted: bool = False,
    ) -> None:
        self.clip, self.seed = clip, seed
        self.data = read_data(str(path)) if images is None else read_table(path, images)
        rows = self.data.rows
        column = ALIGNMENT if prompted and ALIGNMENT in self.data.columns else MOS
        self.opinions = torch.tensor(self.data.labels(column))
        if float(self.opinions.min()) < 0:
            raise ConfigError(f"'{path}' has scores of '{column}' below zero: shift them so that 0 is worst.")
        silent = next((row for row in rows if prompted and not row.prompt), None)
        if silent is not None:
            raise ConfigError(f"'{path}' has no prompt for '{silent.path.name}', and alignment is about a prompt.")
        factors = [self.data.labels(f) if f in self.data.columns else [math.nan] * len(rows) for f in FACTORS[1:]]
        self.factors = torch.tensor(factors).T
        divided = split(self.data, plan)
        self.training, self.measuring = divided.train, divided.test[:1000]
        self.size: int | None = len(self.training)
        self.identity = content_hash("\n".join(f"{r.path.name}|{dict(r.scores)}|{r.prompt}" for r in rows))

    def draw(self, number: int, count: int) -> Opinions:
        """Return batch `number`; the last one of an epoch may be smaller."""
        epoch, at = divmod(number, math.ceil(len(self.training) / count))
        order = torch.randperm(
            len(self.training), generator=torch.Generator().manual_seed(self.seed * 1_000_033 + epoch)
        )
        return self._rated([self.training[int(i)] for i in order[at * count : (at + 1) * count]])

    def held_out(self) -> Opinions:
        return self._rated(self.measuring)

    def _rated(self, numbers: Sequence[int]) -> Opinions:
        rows, chosen = [self.data.rows[n] for n in numbers], list(numbers)

        def look(wanted: Sequence[int]) -> Tensor:
            return self.clip.preprocess_pil([read_image(rows[i].path).rgb for i in wanted])

        return Opinions(
            tuple(str(row.path) for row in rows),
            look,
            len(rows),
            torch.arange(len(rows)),
            self.opinions[chosen],
            self.factors[chosen],
            tuple(row.prompt for row in rows),
        )


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
