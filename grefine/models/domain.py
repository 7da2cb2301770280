"""A small network that tells pictures of the one world that a pipeline was trained on from everything else."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from grefine.models.component import ConfigMixin, ModelMixin, register_to_config

MAX_TILES = 64
"""Per level; a large picture is looked at in so many places, evenly spread."""
CLEAR = 8.0
"""No tile says more than this for or against, so that a few sure ones do not outvote many."""


class DomainNet(ModelMixin, ConfigMixin):
    """Looks at square tiles of a picture at its own scale and at smaller ones."""

    @register_to_config
    def __init__(self, channels: Sequence[int] = (16, 32, 48, 64), side: int = 64, threshold: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in zip((3, *channels), channels, (2, 2, 1, 2), strict=False):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        layers[0] = nn.Conv2d(3, channels[0], 5, 2, 2, bias=False)
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(2 * channels[-1], 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, tiles: Tensor) -> Tensor:
        """Return a logit `(N,)` for tiles `(N, 3, side, side)` in 0..1; above 0 speaks for the world."""
        found = self.features(tiles * 2 - 1)
        return self.head(torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1))[:, 0]

    @torch.no_grad()
    def score(self, image: Image.Image) -> float:
        """Return how surely a picture is of the world: the best of its levels, each the mean over its tiles."""
        weight = self.head[0].weight
        best = -CLEAR
        for level in levels(image.convert("RGB"), self.config["side"]):
            batch = torch.from_numpy(tiles(level, self.config["side"])).to(weight).permute(0, 3, 1, 2) / 255
            best = max(best, float(self(batch).float().clamp(-CLEAR, CLEAR).mean()))
        return best

    def knows(self, image: Image.Image) -> bool:
        """Say whether a picture is of the world."""
        return self.score(image) >= self.config["threshold"]


def levels(image: Image.Image, side: int) -> Iterator[Image.Image]:
    """Return a picture at its own size, halved again and again, and with a shorter side of `side`."""
    shorter = float(min(image.size))
    while shorter >= 1.5 * side:
        yield _shrunk(image, shorter)
        shorter /= 2
    yield _shrunk(image, side)


def _shrunk(image: Image.Image, shorter: float) -> Image.Image:
    scale = shorter / min(image.size)
    size = [max(round(length * scale), round(shorter)) for length in image.size]
    return image if scale == 1 else image.resize((size[0], size[1]), Image.Resampling.BICUBIC)


def tiles(image: Image.Image, side: int) -> np.ndarray:
    """Return tiles `(N, side, side, 3)` on an even grid that covers the picture, or `MAX_TILES` of them."""
    pixels = np.asarray(image)
    rows, columns = (
        np.linspace(0, length - side, -(-length // side)).round().astype(int) for length in (image.height, image.width)
    )
    grid = [(y, x) for y in rows for x in columns]
    if len(grid) > MAX_TILES:
        grid = [grid[i] for i in np.linspace(0, len(grid) - 1, MAX_TILES).astype(int)]
    return np.stack([pixels[y : y + side, x : x + side] for y, x in grid])
