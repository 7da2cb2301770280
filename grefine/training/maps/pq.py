"""PQ-Map's learned prompts, fitted to opinion scores. The image encoder and the text tower stay as they are.

Only the contexts of T_p move (Eq. 2). A frozen image gives the same features every time, so a picture of a table is
encoded once, however many epochs there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grefine.indicators.calibration import BOUNDS, Calibration
from grefine.indicators.encoding import normalise_features
from grefine.indicators.grids import resize
from grefine.indicators.pq_map import cask
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.training.maps.opinions import CHUNK, Fit, FitSettings, Opinions, OpinionSource, agreement, errors
from grefine.types import FeatureNorm


@dataclass(frozen=True)
class PQSettings(FitSettings):
    start: Literal["pipeline", "fresh"] = "pipeline"
    """Go on from the pipeline's prompts, or begin with random contexts."""
    n_ctx: int = 16
    """Learned vectors per text of fresh prompts."""
    feature_norm: FeatureNorm = "channel"
    bounds: tuple[float, float, float] = BOUNDS
    """User bounds that alpha is multiplied by."""
    factor_weight: float = 1.0
    """Of the factors that somebody scored one by one."""


class ClassTokens:
    """Class tokens of frozen images, normalised as the prompts want them; remembered by key."""

    def __init__(self, clip: ClipSurgery, norm: FeatureNorm) -> None:
        self.clip, self.norm, self.known = clip, norm, {}

    @torch.no_grad()
    def __call__(self, rated: Opinions) -> Tensor:
        if not rated.keys:
            return self.tokens(rated)[:, 0]
        new = [row for row, key in enumerate(rated.keys) if key not in self.known]
        found = [token for part in self._looks(rated, new) for token in part[:, 0].clone()]
        self.known |= {rated.keys[row]: token for row, token in zip(new, found, strict=True)}
        return torch.stack([self.known[key] for key in rated.keys])

    @torch.no_grad()
    def tokens(self, rated: Opinions) -> Tensor:
        """Return `(B, 1 + N, D)` of all tokens, which are not remembered."""
        return torch.cat(list(self._looks(rated, range(rated.count))))

    def _looks(self, rated: Opinions, rows: Sequence[int]) -> Iterator[Tensor]:
        for start in range(0, len(rows), CHUNK):
            yield normalise_features(self.clip(rated.look(rows[start : start + CHUNK])).float(), self.norm)


def quality_scores(tokens: Tensor, texts: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """Return p `(...)` and the four factors `(..., 4)` of tokens. (Eq. 3)

    Tokens `(..., D)` are normalised already; texts `(4, 2, D)` are encoded prompts, good before bad; limits `(3,)` are
    alpha times user bounds.
    """
    logits = torch.einsum("...d,fsd->...fs", tokens, texts)
    chances = logits.softmax(dim=-1)[..., 0]
    return cask(chances, limits), chances


def fit_prompts(
    source: OpinionSource,
    settings: PQSettings,
    device: torch.device,
    clip: ClipSurgery,
    prompts: PQPrompts,
    calibration: Calibration,
) -> Fit:
    """Return how `prompts` are fitted to opinions."""
    clip.to(device).float().eval().requires_grad_(False)
    prompts.to(device).float().train()
    limits = torch.tensor([a * b for a, b in zip(calibration.alpha, settings.bounds, strict=True)]).to(device)
    seen, measured = ClassTokens(clip, prompts.config["feature_norm"]), source.held_out()
    tokens = seen.tokens(measured) if measured.damage is not None else seen(measured)[:, None]

    def losses(data: Opinions) -> dict[str, Tensor]:
        score, chances = quality_scores(seen(data)[data.image_of.to(device)], prompts(clip), limits)
        found = errors(score, data.opinions.to(device), settings.order_weight)
        rated = data.factors.to(device)
        known = ~rated.isnan()
        if settings.factor_weight and bool(known.any()):
            found["factors"] = F.mse_loss(chances[:, 1:][known], rated[known])
            found["loss"] = found["loss"] + settings.factor_weight * found["factors"]
        return found

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        score, _ = quality_scores(tokens, prompts(clip), limits)
        found = agreement(score[:, 0].cpu()[measured.image_of], measured.opinions)
        if measured.damage is None:
            return found
        height, width = measured.damage.shape[-2:]
        grids = score[:, 1:].unflatten(1, clip.grid).cpu().numpy()
        bad = np.stack([1.0 - resize(grid, height, width, "bicubic") for grid in grids])
        return found | {"map_ap": average_precision(bad.ravel(), measured.damage.cpu().numpy().ravel())}

    return Fit(prompts, [prompts.ctx], losses, evaluate)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the precision-recall curve of flat scores against bool truth."""
    order = np.argsort(-scores, kind="stable")
    hits = truth[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(hits.sum(), 1))
