"""What judges learn with (batches, layers that help and are thrown away) and how good they are on unseen scenes."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine.evaluate.correlation import srcc
from grefine.models.mdiqa import DIMENSIONS, MDIQA, TECHNICAL
from lab.judges.stream import JUDGE_TRAIN, Judged, distort, judged
from lab.world.stream import generator
from lab.world.vocabulary import COLOURS, NOUNS, TEXTURES


def draw(settings: Any, number: int, device: torch.device) -> Judged:
    """Render training batch `number` as a judge's settings say."""
    names = ("damaged_share", "distorted_share", "single_share", "versions", "files", "local_exponent")
    shares = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    return judged(JUDGE_TRAIN + settings.seed, number, settings.batch, device=device, **shares)


def in_chunks(function: Callable[[Tensor], Tensor], images: Tensor, chunk: int = 64) -> Tensor:
    return torch.cat([function(part) for part in images.split(chunk)])


def dimension_measures(score: Callable[[Tensor], Tensor], seed: int, count: int) -> dict[str, float]:
    """Return the rank correlation of every dimension with its own distortion's strength, and the technical mean."""
    clean = judged(seed, 990_003, count, damaged_share=0.0, distorted_share=0.0).images
    strength = torch.rand(count, generator=generator(seed, 990_004))
    rho = {}
    for column, name in enumerate(DIMENSIONS):
        spoilt = distort(clean, name, strength, generator(seed, 990_005 + column))
        rho[name] = srcc(in_chunks(score, spoilt)[:, column], -strength)
    return {f"srcc_{name}": value for name, value in rho.items()} | {
        "srcc_technical": sum(rho[name] for name in TECHNICAL) / len(TECHNICAL)
    }


def direction_measures(model: MDIQA, seed: int, count: int) -> dict[str, float]:
    """Return the cosine between a dimension's gradient and what a picture spoilt in one place has lost."""
    found = {}
    for number, (kind, name) in enumerate((("blur", "sharpness"), ("noise", "noisiness"))):
        data = judged(seed, 990_020 + number, count, damaged_share=1.0, distorted_share=0.0, kinds=(kind,))
        images = data.images.requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(model.score(images, (name,)).dimensions[name].sum(), images)
        found[f"direction_{name}"] = 1 - float(away_from(gradient, data.clean.images - images.detach()))
    return found


def away_from(found: Tensor, wanted: Tensor) -> Tensor:
    """Return 1 - the mean cosine between directions (B, ...), in 0..2; those that are wanted nowhere are left out."""
    found, wanted = found.flatten(1), wanted.flatten(1)
    known = wanted.norm(dim=1) > 0
    return 1 - torch.cosine_similarity(found, wanted, dim=1)[known].sum() / known.sum().clamp(min=1)


_COVERED = 0.35
"""Share of a cell that an object must cover for the cell to show it."""


class DamageHead(nn.Module):
    """Read from each cell's features how much damage shows there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(width, 1, 1)
        start_at(self.read, -3.0, share=1.0)  # about one cell in twenty is damaged

    def forward(self, features: Tensor, data: Judged) -> Tensor:
        """Return the cross-entropy of features `(B, C, n, n)` against the visible damage of each cell."""
        found = self.read(features)[:, 0]
        return F.binary_cross_entropy_with_logits(found, data.visible(found.shape[-1]))


class ContentHead(nn.Module):
    """Read from each cell's token which thing it shows, in which colour and texture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [len(NOUNS) + 1, len(COLOURS) + 1, len(TEXTURES) + 1]
        self.read = nn.Linear(width, sum(self.sizes))

    def forward(self, tokens: Tensor, data: Judged) -> Tensor:
        """Return the cross-entropy of tokens `(B, n * n, C)` against the objects of the cells."""
        side = round(tokens.shape[1] ** 0.5)
        covered, slot = F.adaptive_avg_pool2d(data.clean.objects.float(), side).max(1)
        rows = torch.arange(len(slot))[:, None, None]
        logits = self.read(tokens).split(self.sizes, dim=-1)
        losses = []
        for found, name, size in zip(logits, ("noun", "colour", "texture"), self.sizes, strict=True):
            shown = getattr(data.scenes, name)[rows, slot.cpu()].to(tokens.device)
            truth = torch.where(covered > _COVERED, shown, torch.full_like(shown, size - 1))
            losses.append(F.cross_entropy(found.flatten(0, 1), truth.flatten()))
        return torch.stack(losses).sum()


@torch.no_grad()
def start_at(layer: nn.Linear | nn.Conv2d, value: float, share: float = 0.2) -> None:
    """Let a last layer begin at the usual label: to find it by small steps takes thousands of pictures."""
    layer.weight.mul_(share)
    if layer.bias is not None:
        layer.bias.fill_(value)
