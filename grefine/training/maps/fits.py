"""How the maps are fitted to opinions: PQ-Map's learned prompts, and the CLIP that AQ-Map finds phrases with.

Of PQ-Map only the contexts of T_p move (Eq. 2). Of AQ-Map's CLIP the text tower and CLIP's scale move, and last blocks
of the image tower where asked; token embeddings never do, since an opinion set holds only some of the words. PQ-Map
reads the same CLIP, so a second loss holds its factors where they were on the training pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine.errors import ConfigError
from grefine.indicators.aq_map import parsed_prompt, scaled_logits
from grefine.indicators.calibration import BOUNDS, Calibration
from grefine.indicators.defects import alignment_score
from grefine.indicators.grids import resize
from grefine.indicators.pq_map import cask
from grefine.indicators.similarity import factor_logits, normalise_features
from grefine.indicators.text_features import TextFeatures
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.training.maps.opinions import CHUNK, Fit, FitSettings, Opinions, OpinionSource, agreement, errors
from grefine.types import FeatureNorm, ParsedPrompt


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
    """Return p `(...)` and factors `(..., 4)` of normalised tokens `(..., D)`; texts are `(4, 2, D)`. (Eq. 3)"""
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


@dataclass(frozen=True)
class AQSettings(FitSettings):
    text: bool = True
    """The text tower and CLIP's scale move."""
    image_blocks: int = 0
    """So many last blocks of the image tower move."""
    batch: int = 48
    learning_rate: float = 1e-5
    keep_quality: float = 10.0
    """Of the mean squared change of PQ-Map's factors on the training pictures."""

    def __post_init__(self) -> None:
        if not self.text and not self.image_blocks:
            raise ConfigError("Nothing would move: set text to true, or image_blocks above 0.")


def moving(clip: ClipSurgery, settings: AQSettings) -> list[nn.Parameter]:
    """Freeze the whole CLIP except what the settings let move, and return that."""
    blocks = list(clip.clip.visual.transformer.resblocks)
    if not 0 <= settings.image_blocks <= len(blocks):
        raise ConfigError(f"image_blocks must lie in 0..{len(blocks)} for this CLIP, not {settings.image_blocks}.")
    clip.requires_grad_(False)
    chosen: list[nn.Module | nn.Parameter] = []
    if settings.text:
        tower = clip.clip
        chosen += [tower.transformer, tower.ln_final, tower.positional_embedding, tower.text_projection]
        chosen += [tower.logit_scale]  # type: ignore[list-item]
    if settings.image_blocks:
        visual = clip.clip.visual
        chosen += [*blocks[-settings.image_blocks :], visual.ln_post, visual.proj]  # type: ignore[list-item]
    for part in chosen:
        part.requires_grad_(True)
    return [p for p in clip.parameters() if p.requires_grad]


def alignment_scores(
    features: Tensor,
    image_of: Tensor,
    prompts: Sequence[ParsedPrompt],
    texts: TextFeatures,
    calibration: Calibration,
) -> Tensor:
    """Return a `(P,)` of prompts, each about its own picture. (Eq. 5, 8)"""
    parts = [[phrase.text for phrase in prompt.phrases] for prompt in prompts]
    asked = list(
        dict.fromkeys(text for prompt, own in zip(prompts, parts, strict=True) for text in (prompt.text, *own))
    )
    encoded = texts.encode([*asked, ""])
    at = {text: column for column, text in enumerate(asked)}
    seen = F.normalize(features, dim=-1)
    own_scale = texts.clip.logit_scale.exp()
    # The whole prompt has nobody to compete with.
    paired = "empty" if calibration.redundant == "compete" else calibration.redundant
    scores: list[Any] = []
    for row, (prompt, own) in enumerate(zip(prompts, parts, strict=True)):
        tokens = seen[int(image_of[row])]
        columns = [at[prompt.text], *(at[text] for text in own), len(asked)]
        cosines = tokens @ encoded[columns].T
        whole = scaled_logits(cosines[:1][:, [0, -1]], calibration.prompts, own_scale, paired)[0, 0].sigmoid()
        places = cosines[:1, 1:] if calibration.phrase_score == "class" else cosines[1:, 1:]
        logits = scaled_logits(places, calibration.phrases, own_scale, calibration.redundant)
        chances = logits.softmax(dim=-1)[:, :-1] if calibration.redundant == "compete" else logits.sigmoid()
        judged = [j for j, phrase in enumerate(prompt.phrases) if phrase.drawable and not phrase.negated]
        aligned: list[Any] = [chances[:, j].amax() for j in judged]
        scores.append(alignment_score(whole, aligned, calibration.beta, "worst3"))  # type: ignore[arg-type]
    return torch.stack(scores)


def fit_alignment(
    source: OpinionSource,
    settings: AQSettings,
    device: torch.device,
    clip: ClipSurgery,
    tokenizer: Any,
    prompts: PQPrompts,
    calibration: Calibration,
    before: ClipSurgery,
) -> Fit:
    """Return how `clip` is fitted to opinions; `before` is the one that PQ-Map's factors are held to."""
    clip.to(device).float().eval()
    prompts.to(device).float().eval().requires_grad_(False)
    teacher = before.to(device).float().eval().requires_grad_(False)
    parameters = moving(clip, settings)
    texts, norm, measured = TextFeatures(clip, tokenizer), prompts.config["feature_norm"], source.held_out()
    with torch.no_grad():
        texts_before = prompts(teacher)
        held_out = [(part, teacher(part.look(range(part.count)))) for part in measured.parts()]

    def features_of(data: Opinions, was: Tensor) -> Tensor:
        return clip(data.look(range(data.count))) if settings.image_blocks else was

    def quality_change(features: Tensor, before: Tensor) -> Tensor:
        """Return the mean squared change of PQ-Map's factors at all tokens; both features `(B, 1 + N, D)`."""
        was = factor_logits(before, texts_before, norm).softmax(-1)[..., 0]
        now = factor_logits(features, prompts(clip), norm).softmax(-1)[..., 0]
        return F.mse_loss(now, was)

    def score(data: Opinions, features: Tensor) -> tuple[Tensor, Tensor]:
        parsed = [parsed_prompt(text) for text in data.prompts]
        rows = [row for row, prompt in enumerate(parsed) if prompt.phrases]
        if not rows:
            raise ConfigError("None of a batch's prompts names anything that can be seen, so nothing can be learnt.")
        chosen = [parsed[row] for row in rows]
        found = alignment_scores(features, data.image_of[rows], chosen, texts, calibration)
        return found, data.opinions[rows].to(found.device)

    def losses(data: Opinions) -> dict[str, Tensor]:
        with torch.no_grad():
            was = teacher(data.look(range(data.count)))
        features = features_of(data, was)
        found = errors(*score(data, features), settings.order_weight)
        found["quality_change"] = quality_change(features, was)
        found["loss"] = found["loss"] + settings.keep_quality * found["quality_change"]
        return found

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        scored, change = [], 0.0
        for part, was in held_out:
            features = features_of(part, was)
            change += float(quality_change(features, was)) * part.count
            scored.append([x.cpu() for x in score(part, features)])
        found, opinions = (torch.cat(side) for side in zip(*scored, strict=True))
        return agreement(found, opinions) | {"quality_rms_change": (change / measured.count) ** 0.5}

    return Fit(clip, parameters, losses, evaluate)
