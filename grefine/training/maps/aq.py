"""The CLIP that AQ-Map finds phrases with, fitted to opinions on how well pictures show their prompts.

What moves: the text tower (blocks, positions, last norm, projection) and CLIP's scale, and, where asked for, the last
blocks of the image tower with its last norm and projection. Token embeddings never move, since an opinion set holds
only some of the words. The loss is that of Eq. 8's a, computed as AQ-Map computes it.

PQ-Map reads the same CLIP. A second loss therefore holds its factors where they were on the training pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine.errors import ConfigError
from grefine.indicators.aq_map import parsed_prompt, scaled_logits
from grefine.indicators.calibration import Calibration
from grefine.indicators.defects import alignment_score
from grefine.indicators.encoding import TextFeatures, factor_logits
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.training.maps.opinions import Fit, FitSettings, Opinions, OpinionSource, agreement, errors
from grefine.types import ParsedPrompt


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
