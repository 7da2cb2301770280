"""What an autoencoder cannot carry, put back into a repaint from the picture that was repainted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine.models.component import ConfigMixin, ModelMixin, register_to_config

SMALL = 0.05
"""Scale of a correction, so that one step of training changes it little."""


class Block(nn.Module):
    """Two convolutions beside a shortcut; every pixel is brought to one length, so that crops of any size agree."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, C, H, W)` and what was found in it."""
        level = x * (x.square().mean(1, keepdim=True) + 1e-4).rsqrt()
        return x + self.second(F.silu(self.first(level)))


class Level(nn.Module):
    """Blocks at one size, and between them what is seen at half of it and coarser."""

    def __init__(self, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        own, *coarser = widths
        self.before = nn.Sequential(*(Block(own) for _ in range(blocks)))
        self.coarser = Level(coarser, blocks) if coarser else None
        if coarser:
            self.down, self.up = nn.Conv2d(own, coarser[0], 2, 2), nn.Conv2d(coarser[0], 4 * own, 1)
            self.after = nn.Sequential(*(Block(own) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, C, H, W)` and what was found in it; sides halve once for each coarser level."""
        x = self.before(x)
        if self.coarser is None:
            return x
        return self.after(x + F.pixel_shuffle(self.up(self.coarser(self.down(x))), 2))


class Finisher(ModelMixin, ConfigMixin):
    """Sees a damaged picture, what a painter made of it and where, and returns the repaint with a correction.

    A painter in latents gives back edges and patterns softer than they were, wherever it paints. Of what was not
    damaged they can be read in the source; at first the correction is nothing.
    """

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (48, 96, 160), blocks: int = 2) -> None:
        super().__init__()
        self.enter = nn.Conv2d(28, widths[0], 3, padding=1)
        self.levels = Level(widths, blocks)
        self.leave = nn.Conv2d(widths[0], 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, source: Tensor, painted: Tensor, mask: Tensor) -> Tensor:
        """Finish repaints.

        Args:
            source: `(B, 3, H, W)` in 0..1, as it was given to the painter; sides halve once for each width.
            painted: the same, as it came back.
            mask: `(B, 1, H, W)`, 1 = repainted.
        """
        seen = F.pixel_unshuffle(torch.cat([source * 2 - 1, painted * 2 - 1, mask], 1), 2)
        return painted + SMALL * F.pixel_shuffle(self.leave(self.levels(self.enter(seen))), 2)
