"""What an autoencoder cannot carry, put back into a repaint from the picture that was repainted."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine.models.component import ConfigMixin, ModelMixin, register_to_config

SMALL = 0.05
"""Scale of a correction, so that one step of training changes it little."""
CELL = 4
"""What sides of pictures are multiples of."""


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


class Finisher(ModelMixin, ConfigMixin):
    """Gives a repaint back what a painter in latents loses of edges and patterns, as the damaged source has them."""

    @register_to_config
    def __init__(self, width: int = 48, coarse: int = 72, blocks: int = 2) -> None:
        super().__init__()

        def several(size: int) -> nn.Sequential:
            return nn.Sequential(*(Block(size) for _ in range(blocks)))

        self.enter = nn.Conv2d(28, width, 3, padding=1)
        self.first, self.down = several(width), nn.Conv2d(width, coarse, 2, 2)
        self.second, self.up = several(coarse), nn.Conv2d(coarse, 4 * width, 1)
        self.third, self.leave = several(width), nn.Conv2d(width, 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, source: Tensor, painted: Tensor, mask: Tensor) -> Tensor:
        """Finish repaints.

        Args:
            source: `(B, 3, H, W)` in 0..1, as it was given to the painter; sides are multiples of `CELL`.
            painted: the same, as it came back.
            mask: `(B, 1, H, W)`, 1 = repainted.
        """
        seen = F.pixel_unshuffle(torch.cat([source * 2 - 1, painted * 2 - 1, mask], 1), 2)
        fine = self.first(self.enter(seen))
        fine = fine + F.pixel_shuffle(self.up(self.second(self.down(fine))), 2)
        return painted + SMALL * F.pixel_shuffle(self.leave(self.third(fine)), 2)
