"""PQ-Map's learned prompts, fitted to opinion scores. The image encoder and the text tower stay as they are.

Only the contexts of T_p move (Eq. 2). A frozen image gives the same features every time, so a picture of a table is
encoded once, however many epochs there are.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from grefine.indicators.calibration import BOUNDS, Calibration
from grefine.indicators.grids import resize
from grefine.indicators.similarity import normalise_features
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.training.datasets.splits import SplitPlan
from grefine.training.loop import Budget, Record, train
from grefine.training.losses import correlation_loss
from grefine.training.maps.opinions import Opinions, OpinionSource
from grefine.training.maps.scores import agreement, average_precision, quality_scores
from grefine.types import FeatureNorm

CHUNK = 32
"""Pictures per forward pass outside training steps."""


@dataclass(frozen=True)
class PQSettings:
    """What is fitted and how (configs/train/pq)."""

    start: Literal["pipeline", "fresh"] = "pipeline"
    """Go on from the pipeline's prompts, or begin with random contexts."""
    n_ctx: int = 16
    """Learned vectors per text of fresh prompts."""
    feature_norm: FeatureNorm = "channel"
    """How features meet fresh prompts."""
    bounds: tuple[float, float, float] = BOUNDS
    """User bounds that alpha is multiplied by."""
    batch: int = 32
    epochs: int = 50
    """Over a table; the toy world has no end and needs a budget."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    order_weight: float = 0.5
    """Of (1 - correlation) / 2 beside the mean squared error."""
    factor_weight: float = 1.0
    """Of the factors that somebody scored one by one."""
    split: SplitPlan = field(default_factory=lambda: SplitPlan("random", 0.9))
    """Which pictures of a table only measure."""
    seed: int = 0


@dataclass
class ClassTokens:
    """Class tokens of frozen images, normalised as the prompts want them; remembered by key."""

    clip: ClipSurgery
    norm: FeatureNorm
    known: dict[str, Tensor]

    @torch.no_grad()
    def __call__(self, rated: Opinions) -> Tensor:
        """Return `(B, D)`."""
        if not rated.keys:
            return self.tokens(rated)[:, 0]
        new = [row for row, key in enumerate(rated.keys) if key not in self.known]
        for start in range(0, len(new), CHUNK):
            rows = new[start : start + CHUNK]
            found = self._look(rated, rows)[:, 0]
            self.known |= {rated.keys[row]: token for row, token in zip(rows, found, strict=True)}
        return torch.stack([self.known[key] for key in rated.keys])

    @torch.no_grad()
    def tokens(self, rated: Opinions) -> Tensor:
        """Return `(B, 1 + N, D)` of all tokens, which are not remembered."""
        rows = list(range(rated.count))
        return torch.cat([self._look(rated, rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)])

    def _look(self, rated: Opinions, rows: Sequence[int]) -> Tensor:
        return normalise_features(self.clip(rated.look(rows)).float(), self.norm)


def quality_losses(
    score: Tensor, factors: Tensor, opinions: Tensor, rated: Tensor, s: PQSettings
) -> dict[str, Tensor]:
    """Compare p with opinions `(B,)`, and the factors `(B, 3)` with their own where these are known (not NaN)."""
    error = F.mse_loss(score, opinions)
    found = {"loss": error, "mse": error}
    if s.order_weight and len(opinions) > 1:
        found["order"] = correlation_loss(score, opinions)
        found["loss"] = found["loss"] + s.order_weight * found["order"]
    known = ~rated.isnan()
    if s.factor_weight and bool(known.any()):
        found["factors"] = F.mse_loss(factors[known], rated[known])
        found["loss"] = found["loss"] + s.factor_weight * found["factors"]
    return found


def fit_prompts(
    out: Path,
    clip: ClipSurgery,
    prompts: PQPrompts,
    calibration: Calibration,
    source: OpinionSource,
    settings: PQSettings,
    budget: Budget,
    accelerator: Accelerator,
    identity: dict[str, Any],
) -> Record:
    """Fit `prompts` to the opinions of `source` and write `out`/pq_prompts and the record, which is returned."""
    clip.to(accelerator.device).float().eval().requires_grad_(False)
    prompts.to(accelerator.device).float().train()
    limits = torch.tensor([a * b for a, b in zip(calibration.alpha, settings.bounds, strict=True)])
    limits = limits.to(accelerator.device)
    seen = ClassTokens(clip, prompts.config["feature_norm"], {})
    record = Record.load(out / "training", "pq")
    offset = record.samples // settings.batch
    measured = source.held_out()
    tokens = seen.tokens(measured) if measured.damage is not None else seen(measured)[:, None]

    def step(number: int) -> dict[str, Tensor]:
        data = source.draw(offset + number, settings.batch)
        own = seen(data)[data.image_of.to(accelerator.device)]
        score, chances = quality_scores(own, prompts(clip), limits)
        opinions, rated = (x.to(accelerator.device) for x in (data.opinions, data.factors))
        return quality_losses(score, chances[:, 1:], opinions, rated, settings)

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        score, _ = quality_scores(tokens, prompts(clip), limits)
        found = agreement(score[:, 0].cpu()[measured.image_of], measured.opinions)
        if measured.damage is None:
            return found
        rows, columns = clip.grid
        grids = score[:, 1:].view(-1, rows, columns).cpu().numpy()
        size = measured.damage.shape[-2:]
        bad = np.stack([1.0 - resize(grid, size[0], size[1], "bicubic") for grid in grids])
        return found | {"map_ap": average_precision(bad.ravel(), measured.damage.cpu().numpy().ravel())}

    if not record.rows:
        record.rows.append({"step": 0, "samples": 0, "cpu_seconds": 0.0} | evaluate())
    train(
        step,
        [torch.optim.Adam([prompts.ctx], settings.learning_rate, weight_decay=settings.weight_decay)],
        budget,
        record,
        settings=asdict(settings) | identity,
        evaluate=evaluate,
        save=lambda: prompts.save_pretrained(out / "pq_prompts"),
        batch=settings.batch,
        accelerator=accelerator,
    )
    return record
