"""The tiny MDIQA: nine dimensions, each taught by a distortion of its own, and the overall quality."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from grefine.evaluate.correlation import srcc
from grefine.models.mdiqa import DIMENSIONS, MDIQA
from grefine.training.loop import Budget, Record
from grefine.training.losses import norm_in_norm
from lab.fit import begun, fit, geometry, save_half
from lab.judges.measures import (
    away_from,
    dimension_measures,
    direction_measures,
    draw,
    in_chunks,
    start_at,
)
from lab.judges.stream import JUDGE_TEST, JUDGE_VALIDATE, Judged, judged

SPOTS = ("noisiness", "sharpness")
"""The dimensions that a place alone can be bad in, and that people guide by."""
SPOTS_TRAIN = 5_500_003


@dataclass(frozen=True)
class MDIQASettings:
    """What makes the shipped MDIQA (lab/configs/tiny/mdiqa.yaml)."""

    batch: int = 96
    muon_lr: float = 0.01
    adam_lr: float = 0.002
    norm_weight: float = 0.3
    """Of norm-in-norm beside the squared error."""
    overall_weight: float = 2.0
    local_exponent: float = 1.0
    """How local damage counts in its dimension (`judged`); the overall quality has its own way."""
    spots: int = 64
    """Further pictures per step, `spot_share` of them blurred or noisy in one place."""
    spot_share: float = 0.5
    """With 1, a picture without noise must be a blurred one, and a clean one is taken for half blurred."""
    spot_weight: float = 8.0
    direction_weight: float = 1.0
    """Of how far the gradient on those points away from the unspoilt picture."""
    damaged_share: float = 0.3
    distorted_share: float = 0.12
    files: float = 0.6
    """Share of pictures that went through a file; none of the spots, whose gradient must point to the clean scene."""
    single_share: float = 0.5
    """Of pictures that are bad in one dimension alone."""
    seed: int = 11


def build() -> MDIQA:
    model = MDIQA(**geometry("mdiqa"))
    for net in (model.technology, model.aesthetic):
        for head in net.heads:
            start_at(head.score[-1], 0.9)  # pyright: ignore[reportIndexIssue, reportArgumentType]
    start_at(model.fusion.local.overall[-1], 0.6, share=1.0)  # pyright: ignore
    return model


def train_mdiqa(out: Path, settings: MDIQASettings, budget: Budget, accelerator: Accelerator) -> dict[str, float]:
    """Train, or go on training, `out`/mdiqa."""
    torch.manual_seed(settings.seed)
    model = begun(MDIQA, out / "mdiqa", build).to(accelerator.device)
    for module in model.modules():  # no dropout: every batch is new, so there is nothing to memorise
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0

    def step(number: int) -> dict[str, Tensor]:
        model.train()
        losses = score_losses(model, draw(settings, number, accelerator.device), settings)
        hurt = {"damaged_share": settings.spot_share, "distorted_share": 0.0, "kinds": ("blur", "noise")}
        hurt |= {"local_exponent": settings.local_exponent, "device": accelerator.device}
        losses |= spot_losses(model, judged(SPOTS_TRAIN + settings.seed, number, settings.spots, **hurt))
        losses["loss"] = losses["loss"] + settings.spot_weight * losses["spots"]
        losses["loss"] = losses["loss"] + settings.direction_weight * losses["direction"]
        return losses

    record = Record.load(out / "training", "mdiqa")
    evaluate = partial(measure, model, JUDGE_VALIDATE, 128)
    look = {"evaluate": evaluate, "save": lambda: save_half(out, mdiqa=model), "every": 0.2}
    return fit(record, step, [model], settings, budget, accelerator, **look)


def score_losses(model: MDIQA, data: Judged, settings: MDIQASettings) -> dict[str, Tensor]:
    """Return the error of all scores, that of their order and that of the overall quality, and their weighted sum."""
    out = model(data.images)
    scores = torch.stack([out.dimensions[name] for name in DIMENSIONS], dim=-1)
    error = F.mse_loss(scores, data.dimensions)
    orders = [norm_in_norm(scores[:, i], data.dimensions[:, i]) for i in range(len(DIMENSIONS))]
    order = torch.stack(orders).mean()
    overall = F.mse_loss(out.overall, data.quality) + settings.norm_weight * norm_in_norm(out.overall, data.quality)
    loss = len(DIMENSIONS) * (error + settings.norm_weight * order) + settings.overall_weight * overall
    return {"loss": loss, "mse": error, "order": order, "overall": overall}


def spot_losses(model: MDIQA, data: Judged) -> dict[str, Tensor]:
    """Return the error on pictures that are blurred or noisy in one place, and how wrong their gradients point."""
    images = data.images.requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the only attention whose gradient has a gradient
        found = model.score(images, SPOTS).dimensions
    scores = torch.stack([found[name] for name in SPOTS], dim=-1)
    truth = data.dimensions[:, [DIMENSIONS.index(name) for name in SPOTS]]
    (gradient,) = torch.autograd.grad((scores * (truth < 1)).sum(), images, create_graph=True)
    astray = away_from(gradient, data.clean.images - images.detach())
    return {"spots": F.mse_loss(scores, truth), "direction": astray}


@torch.no_grad()
def measure(model: MDIQA, seed: int = JUDGE_TEST, count: int = 512) -> dict[str, float]:
    """Return what it is worth on unseen scenes."""
    model.eval()

    def score(images: Tensor) -> Tensor:
        found = model.score(images).dimensions
        return torch.stack([found[name] for name in DIMENSIONS], dim=-1)

    data = judged(seed, 0, count)
    scores = in_chunks(score, data.images)
    found = {f"mixed_{name}": srcc(scores[:, i], data.dimensions[:, i]) for i, name in enumerate(DIMENSIONS)}
    found |= dimension_measures(score, seed, count // 2) | direction_measures(model, seed, count // 4)
    overall = in_chunks(lambda images: model(images).overall, data.images)
    found["srcc_overall"] = srcc(overall, data.quality)
    return found
