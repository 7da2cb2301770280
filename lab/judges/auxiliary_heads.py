"""Help at training time: small layers that read a truth out of inner features, and are thrown away afterwards.

A score tells a network that something is wrong; these tell it where and what, which takes far fewer pictures to learn.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.judges.stream import Judged
from lab.world.vocabulary import COLOURS, NOUNS, TEXTURES

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
