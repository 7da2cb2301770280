"""The tiny LAR-IQA: one score from the whole picture made small and from the picture at full scale."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from grefine.evaluate.correlation import srcc
from grefine.models.lar_iqa import LARIQA
from grefine.models.mdiqa_blocks import imagenet
from grefine.training.loop import Budget, Record
from grefine.training.losses import correlation_loss
from lab.fit import begun, fit, geometry, save_half
from lab.judges.measures import DamageHead, draw, in_chunks, start_at
from lab.judges.stream import JUDGE_TEST, JUDGE_VALIDATE, judged


@dataclass(frozen=True)
class LARIQASettings:
    """What makes the shipped LAR-IQA (lab/configs/tiny/lar_iqa.yaml)."""

    batch: int = 48
    muon_lr: float = 0.01
    adam_lr: float = 0.002
    correlation_weight: float = 0.1
    damage_weight: float = 0.5
    """Of the help at training time: where does the picture show damage? Its layer is thrown away."""
    distorted_share: float = 0.03
    damaged_share: float = 0.8
    versions: int = 2
    files: float = 0.6
    """Share of pictures that went through a file."""
    seed: int = 12


def build() -> LARIQA:
    model = LARIQA(**geometry("lar_iqa"))
    start_at(model.head, 0.55)  # pyright: ignore[reportArgumentType]
    return model


def tensor_views(model: LARIQA, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return both views of images `(B, 3, S, S)` in 0..1 that are already as large as the crop."""
    images = (images * 255).round() / 255  # as the model's own `views` reads it
    size = model.config["whole_size"]
    whole = F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return imagenet(whole), imagenet(images)


def train_lar_iqa(out: Path, settings: LARIQASettings, budget: Budget, accelerator: Accelerator) -> dict[str, float]:
    """Train, or go on training, `out`/lar_iqa."""
    torch.manual_seed(settings.seed)
    model = begun(LARIQA, out / "lar_iqa", build).to(accelerator.device)
    encoder: Any = model.synthetic
    aid = DamageHead(encoder.num_features).to(accelerator.device)

    def step(number: int) -> dict[str, Tensor]:
        model.train()
        data = draw(settings, number, accelerator.device)
        whole, crop = tensor_views(model, data.images)
        inner = encoder.forward_features(crop)
        features = [model.authentic_head(model.authentic(whole)), model.synthetic_head(encoder.forward_head(inner))]
        score = model.head(torch.cat(features, dim=-1))[:, 0]
        error, order = F.mse_loss(score, data.quality), correlation_loss(score, data.quality)
        damage = aid(inner, data)
        loss = error + settings.correlation_weight * 2 * order + settings.damage_weight * damage
        return {"loss": loss, "mse": error, "order": order, "damage": damage}

    record = Record.load(out / "training", "lar_iqa")
    look = {"evaluate": lambda: measure(model, JUDGE_VALIDATE, 256), "save": lambda: save_half(out, lar_iqa=model)}
    return fit(record, step, [model, aid], settings, budget, accelerator, every=0.2, **look)


@torch.no_grad()
def measure(model: LARIQA, seed: int = JUDGE_TEST, count: int = 512) -> dict[str, float]:
    """Return rank correlations with the true quality, and with the severity of local defects alone."""
    model.eval()

    def score(images: Tensor) -> Tensor:
        return model(*tensor_views(model, images))

    mixed = judged(seed, 0, count)
    local = judged(seed, 1, count, damaged_share=0.8, distorted_share=0.0)
    return {
        "srcc_quality": srcc(in_chunks(score, mixed.images), mixed.quality),
        "srcc_severity": srcc(in_chunks(score, local.images), -local.severity),
    }
