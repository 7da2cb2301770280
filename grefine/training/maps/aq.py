"""The CLIP that AQ-Map finds phrases with, fitted to opinions on how well pictures show their prompts.

What moves: the text tower (blocks, positions, last norm, projection) and CLIP's scale, and, where asked for, the last
blocks of the image tower with its last norm and projection. Token embeddings never move, since an opinion set holds
only some of the words. The loss is that of Eq. 8's a, computed as AQ-Map computes it.

PQ-Map reads the same CLIP. A second loss therefore holds its factors where they were on the training pictures.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from grefine.errors import ConfigError
from grefine.indicators.aq_map import parsed_prompt
from grefine.indicators.calibration import Calibration
from grefine.indicators.similarity import factor_logits
from grefine.indicators.text_features import TextFeatures
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.training.datasets.splits import SplitPlan
from grefine.training.loop import Budget, Record, train
from grefine.training.losses import correlation_loss
from grefine.training.maps.opinions import Opinions, OpinionSource
from grefine.training.maps.scores import agreement, alignment_scores

CHUNK = 32


@dataclass(frozen=True)
class AQSettings:
    """What is fitted and how (configs/train/aq)."""

    text: bool = True
    """The text tower and CLIP's scale move."""
    image_blocks: int = 0
    """So many last blocks of the image tower move."""
    batch: int = 48
    """Opinions per step."""
    epochs: int = 50
    """Over a table; the toy world has no end and needs a budget."""
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    order_weight: float = 0.5
    """Of (1 - correlation) / 2 beside the mean squared error."""
    keep_quality: float = 10.0
    """Of the mean squared change of PQ-Map's factors on the training pictures."""
    split: SplitPlan = field(default_factory=lambda: SplitPlan("random", 0.9))
    """Which pictures of a table only measure."""
    seed: int = 0

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


@dataclass
class Quality:
    """PQ-Map's factors as they were before training."""

    teacher: ClipSurgery
    """The CLIP before training."""
    prompts: PQPrompts

    def __post_init__(self) -> None:
        self.norm = self.prompts.config["feature_norm"]
        with torch.no_grad():
            self.texts = self.prompts(self.teacher)

    def change(self, clip: ClipSurgery, features: Tensor, before: Tensor) -> Tensor:
        """Return the mean squared change of all factors at all tokens; both features `(B, 1 + N, D)`."""
        was = factor_logits(before, self.texts, self.norm).softmax(-1)[..., 0]
        now = factor_logits(features, self.prompts(clip), self.norm).softmax(-1)[..., 0]
        return F.mse_loss(now, was)


def fit_alignment(
    out: Path,
    clip: ClipSurgery,
    tokenizer: Any,
    prompts: PQPrompts,
    calibration: Calibration,
    source: OpinionSource,
    settings: AQSettings,
    budget: Budget,
    accelerator: Accelerator,
    identity: dict[str, Any],
    before: ClipSurgery | None = None,
) -> Record:
    """Fit `clip` to the opinions of `source` and write `out`/clip and the record, which is returned.

    `before` is the CLIP that PQ-Map's factors are held to; without it, `clip` as it is given.
    """
    clip.to(accelerator.device).float().eval()
    prompts.to(accelerator.device).float().eval().requires_grad_(False)
    teacher = (before or copy.deepcopy(clip)).to(accelerator.device).float().eval().requires_grad_(False)
    parameters = moving(clip, settings)
    texts, quality = TextFeatures(clip, tokenizer), Quality(teacher, prompts)
    record = Record.load(out / "training", "aq")
    offset = record.samples // settings.batch
    measured = source.held_out()
    with torch.no_grad():
        held_out = [(part, teacher(part.look(range(part.count)))) for part in parts_of(measured, CHUNK)]

    def score(data: Opinions, features: Tensor) -> tuple[Tensor, Tensor]:
        parsed = [parsed_prompt(text) for text in data.prompts]
        rows = [row for row, prompt in enumerate(parsed) if prompt.phrases]
        if not rows:
            raise ConfigError("None of a batch's prompts names anything that can be seen, so nothing can be learnt.")
        chosen = [parsed[row] for row in rows]
        found = alignment_scores(features, data.image_of[rows], chosen, texts, calibration)
        return found, data.opinions[rows].to(found.device)

    def step(number: int) -> dict[str, Tensor]:
        data = source.draw(offset + number, settings.batch)
        pixels = data.look(range(data.count))
        with torch.no_grad():
            was = teacher(pixels)
        features = clip(pixels) if settings.image_blocks else was
        found, opinions = score(data, features)
        error, change = F.mse_loss(found, opinions), quality.change(clip, features, was)
        loss = error + settings.keep_quality * change
        losses = {"loss": loss, "mse": error, "quality_change": change}
        if settings.order_weight and len(opinions) > 1:
            losses["order"] = correlation_loss(found, opinions)
            losses["loss"] = loss + settings.order_weight * losses["order"]
        return losses

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        scores, opinions, changes = [], [], []
        for part, was in held_out:
            features = clip(part.look(range(part.count))) if settings.image_blocks else was
            changes.append(float(quality.change(clip, features, was)) * part.count)
            found, wanted = score(part, features)
            scores.append(found.cpu())
            opinions.append(wanted.cpu())
        return agreement(torch.cat(scores), torch.cat(opinions)) | {
            "quality_rms_change": (sum(changes) / measured.count) ** 0.5
        }

    if not record.rows:
        record.rows.append({"step": 0, "samples": 0, "cpu_seconds": 0.0} | evaluate())
    train(
        step,
        [torch.optim.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)],
        budget,
        record,
        settings=asdict(settings) | identity,
        evaluate=evaluate,
        save=lambda: clip.save_pretrained(out / "clip"),
        batch=settings.batch,
        accelerator=accelerator,
    )
    return record


def parts_of(rated: Opinions, count: int) -> list[Opinions]:
    """Cut a batch into batches of at most `count` pictures, each with the opinions about them."""
    return [_part(rated, range(start, min(start + count, rated.count))) for start in range(0, rated.count, count)]


def _part(rated: Opinions, pictures: Sequence[int]) -> Opinions:
    first = pictures[0]
    rows = ((rated.image_of >= first) & (rated.image_of <= pictures[-1])).nonzero()[:, 0]
    return Opinions(
        rated.keys[first : pictures[-1] + 1],
        lambda chosen: rated.look([first + row for row in chosen]),
        len(pictures),
        rated.image_of[rows] - first,
        rated.opinions[rows],
        rated.factors[rows],
        tuple(rated.prompts[int(row)] for row in rows),
    )
