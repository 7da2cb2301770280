"""The two towers of a CLIP with a vision transformer, under OpenAI's (and open_clip's) names and with their start."""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIPs."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` times the sigmoid of 1.702 x."""
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """One layer's parameters; `ClipSurgery` walks through them."""

    def __init__(self, width: int, heads: int, quick_gelu: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        activation = QuickGELU() if quick_gelu else nn.GELU()
        layers = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", activation), ("c_proj", nn.Linear(4 * width, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))


class Transformer(nn.Module):
    """A stack of blocks."""

    def __init__(self, width: int, layers: int, heads: int, quick_gelu: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, quick_gelu) for _ in range(layers))


class VisionTower(nn.Module):
    """The image side."""

    def __init__(
        self, embed_dim: int, side: int, patch: int, width: int, layers: int, heads: int, quick_gelu: bool
    ) -> None:
        super().__init__()
        scale = width**-0.5
        self.conv1: nn.Module = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn((side // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, quick_gelu)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))


class ClipTowers(nn.Module):
    """Both sides; the text side lies open, as published state dicts have it."""

    def __init__(
        self, visual: VisionTower, embed_dim: int, length: int, vocabulary: int, width: int, layers: int, heads: int,
        quick_gelu: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.visual = visual
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.transformer = Transformer(width, layers, heads, quick_gelu)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        # The text side's first values are drawn as OpenAI did.
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        into = width**-0.5 * (2 * layers) ** -0.5
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)  # type: ignore[arg-type]
            nn.init.normal_(block.attn.out_proj.weight, std=into)  # type: ignore[arg-type]
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)  # type: ignore[arg-type]
            nn.init.normal_(block.mlp.c_proj.weight, std=into)  # type: ignore[arg-type]
        nn.init.normal_(self.text_projection, std=width**-0.5)
