"""DISTS: how far apart two pictures look, texture forgiven where it is alike.

"Image Quality Assessment: Unifying Structure and Texture Similarity" (arXiv:2004.07728).
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import vgg16

from grefine.models.mdiqa_blocks import imagenet
from grefine.models.reference import load_group

CHANNELS = (3, 64, 128, 256, 512, 512)
STAGES = ((0, 4), (5, 9), (10, 16), (17, 23), (24, 30))
"""Layers of VGG-16 between its pooling layers, which L2 pooling replaces."""
STABLE = 1e-6


class DISTS(nn.Module):
    """Distance of two batches of pictures, 0 for equal ones, larger for more different ones."""

    def __init__(self) -> None:
        super().__init__()
        self.vgg = vgg16(weights=None).features.requires_grad_(False)
        self.alpha = nn.Parameter(torch.ones(1, sum(CHANNELS), 1, 1), requires_grad=False)
        self.beta = nn.Parameter(torch.ones(1, sum(CHANNELS), 1, 1), requires_grad=False)
        window = torch.hann_window(5, periodic=False)[1:-1]
        kernel = torch.outer(window, window)
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None], persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the picture itself and the last activation of every stage; `(B, 3, H, W)` in 0..1."""
        x = imagenet(images)
        found = [images]
        for number, (first, last) in enumerate(STAGES):
            if number:
                channels = x.shape[1]
                squares = F.conv2d(x * x, self.kernel.expand(channels, 1, 3, 3), stride=2, padding=1, groups=channels)
                x = torch.sqrt(squares + 1e-12)
            for layer in self.vgg[first:last]:
                x = layer(x)
            found.append(x)
        return found

    def distance(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Return `(B,)` distances between two results of `features`."""
        total = self.alpha.sum() + self.beta.sum()
        alphas, betas = self.alpha.split(CHANNELS, 1), self.beta.split(CHANNELS, 1)
        similarity = torch.zeros(len(first[0]), device=first[0].device)
        for x, y, alpha, beta in zip(first, second, alphas, betas, strict=True):
            mx, my = x.mean((2, 3), keepdim=True), y.mean((2, 3), keepdim=True)
            texture = (2 * mx * my + STABLE) / (mx**2 + my**2 + STABLE)
            vx, vy = ((x - mx) ** 2).mean((2, 3), keepdim=True), ((y - my) ** 2).mean((2, 3), keepdim=True)
            covariance = (x * y).mean((2, 3), keepdim=True) - mx * my
            structure = (2 * covariance + STABLE) / (vx + vy + STABLE)
            similarity = similarity + (alpha * texture + beta * structure).sum((1, 2, 3)) / total
        return 1 - similarity

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return `(B,)` distances of two batches `(B, 3, H, W)` in 0..1 of one size."""
        return self.distance(self.features(first), self.features(second))

    @classmethod
    def from_reference(cls, groups: Mapping[str, Mapping[str, Any]]) -> "DISTS":
        """Build from torchvision's VGG-16 state dict and the published {alpha, beta}; groups {vgg, dists}."""
        model = cls()
        given = {key.replace("features.", "vgg."): value for key, value in groups.get("vgg", {}).items()}
        given |= groups.get("dists", {})
        state = {key: torch.as_tensor(value) for key, value in given.items() if "classifier" not in key}
        load_group(model, state, "DISTS (groups vgg and dists)")
        return model.eval()
