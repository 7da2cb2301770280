"""The dimension network of MDIQA: one trunk, one regression head per quality dimension.

The layout follows YaoShunyu19/MDIQA at 8b2f775; the published key names are mapped in `grefine.models.mdiqa`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def imagenet(image: Tensor) -> Tensor:
    """Standardise `(B, 3, H, W)` in 0..1 by ImageNet's mean and deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=image.device, dtype=image.dtype)
    std = torch.tensor(IMAGENET_STD, device=image.device, dtype=image.dtype)
    return (image - mean[:, None, None]) / std[:, None, None]


def pad_to(image: Image.Image, size: int) -> Image.Image:
    """Centre the image on black so that both sides reach `size`; the odd pixel goes to the right and bottom."""
    if image.width >= size and image.height >= size:
        return image
    canvas = Image.new("RGB", (max(image.width, size), max(image.height, size)))
    canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
    return canvas


def trunk(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a timm backbone that returns its pyramid, without any pretrained weights."""
    import timm

    return timm.create_model(name, pretrained=False, features_only=True, **dict(options))


def regressor(width: int) -> nn.Sequential:
    """Return the seven-layer head that turns pooled tokens into one number."""
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(),
        nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1),
    )  # fmt: skip


def self_attention(width: int, heads: int, hidden: int) -> nn.TransformerEncoderLayer:
    """Return one pre-norm encoder layer over tokens in `(token, batch, width)` order."""
    return nn.TransformerEncoderLayer(width, heads, hidden, 0.1, "gelu", norm_first=True)


class Gate(nn.Module):
    """Weigh one level of the pyramid by a learned attention map."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.split = nn.Conv2d(channels, 2 * channels, 1)
        self.weight = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.GELU(),
            nn.Conv2d(hidden, 1, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        value, selector = self.split(x).chunk(2, dim=1)
        return F.gelu(value) * self.weight(selector)


class CrossAttention(nn.Module):
    """Let the query tokens read one other level, with a norm for each and no self-attention before."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=0.1)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        memory = self.norm2(memory)
        read = self.attention(self.norm1(query), memory, memory, need_weights=False)[0]
        query = query + self.dropout(read)
        hidden = self.dropout(F.gelu(self.linear1(self.norm3(query))))
        return query + self.dropout(self.linear2(hidden))


class DimensionHead(nn.Module):
    """Regress one quality dimension from the five shared levels."""

    def __init__(self, width: int, heads: int, hidden: int, levels: int = 5, grid: int = 32) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(1, width // 2, grid, 1))
        self.columns = nn.Parameter(torch.randn(1, width // 2, 1, grid))
        self.self_blocks = nn.ModuleList(self_attention(width, heads, hidden) for _ in range(levels))
        self.cross_blocks = nn.ModuleList(CrossAttention(width, heads, hidden) for _ in range(levels - 1))
        self.pool = self_attention(width, heads, hidden)
        self.score = regressor(width)

    def position(self, height: int, width: int) -> Tensor:
        """Return the position code of a `height` x `width` grid as `(token, 1, width)`."""
        rows = self.rows.expand(-1, -1, -1, self.columns.shape[-1])
        columns = self.columns.expand(-1, -1, self.rows.shape[-2], -1)
        code = torch.cat([rows, columns], dim=1)
        code = F.interpolate(code, size=(height, width), mode="bicubic", align_corners=False)
        return code.flatten(2).permute(2, 0, 1)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return score `(B,)`, feature map `(B, width, h, w)` before pooling, and pooled token `(B, width)`."""
        height, width = levels[-1].shape[-2:]
        code = self.position(height, width)
        tokens = [
            block(x.flatten(2).permute(2, 0, 1) + code) for block, x in zip(self.self_blocks, levels, strict=True)
        ]
        query = tokens[-1]
        for block, memory in zip(self.cross_blocks, reversed(tokens[:-1]), strict=True):
            query = block(query, memory)
        feature = query.permute(1, 2, 0).unflatten(2, (height, width))
        token = self.pool(query).mean(dim=0)
        return self.score(token)[:, 0], feature, token


class DimensionNet(nn.Module):
    """Score several dimensions of one kind (technical or aesthetic) over one shared trunk."""

    def __init__(
        self,
        backbone: str,
        options: Mapping[str, Any],
        dimensions: int,
        width: int,
        heads: int,
        hidden: int,
        gate_width: int,
    ) -> None:
        super().__init__()
        self.trunk = trunk(backbone, options)
        channels = self.trunk.feature_info.channels()  # type: ignore[union-attr]
        self.gates = nn.ModuleList(Gate(c, gate_width) for c in channels)
        self.reduce = nn.ModuleList(nn.Sequential(nn.Conv2d(c, width, 1), nn.GELU()) for c in channels)
        self.heads = nn.ModuleList(DimensionHead(width, heads, hidden, len(channels)) for _ in range(dimensions))

    def levels(self, image: Tensor) -> list[Tensor]:
        """Return the shared maps `(B, width, h, w)`, finest level first, all on the coarsest grid."""
        pyramid = self.trunk(imagenet(image))
        grid = pyramid[-1].shape[-2:]
        return [
            reduce(F.adaptive_avg_pool2d(gate(level), grid))
            for gate, reduce, level in zip(self.gates, self.reduce, pyramid, strict=True)
        ]
