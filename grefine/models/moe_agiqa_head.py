"""The head of MoE-AGIQA: fuse patch features with the prompt, then let a few of several experts rate the result."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Ratings:
    """What the head found for every crop."""

    scores: Tensor
    """`(B, crops, outputs)`."""
    gating: Tensor
    """`(B, crops, experts)`, sums to one."""
    chosen: Tensor
    """`(B, crops, k)`, indices of the experts used, best first."""
    expert_scores: Tensor
    """`(B, crops, experts, outputs)`."""
    fused: Tensor
    """`(B, crops, width)`."""


class TextAttention(nn.Module):
    """Let image positions read the prompt; the keys and values are shared by all crops of an image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, positions: Tensor, text: Tensor) -> Tensor:
        """Return `(B, positions, width)`; padding tokens are read like any other, as published."""
        q, k, v = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in (self.to_q(positions), self.to_k(text), self.to_v(text))
        )
        read = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(read.transpose(1, 2).flatten(-2))


class PriorGate(nn.Module):
    """Mix in what a network trained on quality alone thinks of the crop (version 2)."""

    def __init__(self, inputs: int, width: int, hidden: int, grid: int) -> None:
        super().__init__()
        self.project = nn.Parameter(torch.randn(inputs, width) * inputs**-0.5)
        self.gate = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Sigmoid())
        self.plain = nn.Parameter(torch.zeros(1, width, grid, grid))
        self.gated = nn.Parameter(torch.zeros(1, width, grid, grid))

    def forward(self, feature: Tensor, prior: Tensor) -> Tensor:
        gate = self.gate(prior @ self.project)[:, :, None, None]
        return feature * self.plain + feature * gate * self.gated


class MoEHead(nn.Module):
    """Rate crops of an image under its prompt."""

    def __init__(
        self,
        features: int,
        reduced: int,
        text: int,
        width: int,
        heads: int,
        experts: int,
        chosen: int,
        outputs: int,
        prior: int | None,
        grid: int,
        prior_hidden: int,
    ) -> None:
        super().__init__()
        self.chosen = chosen
        self.down = nn.Conv2d(features, reduced, 1)
        self.conv = nn.Conv2d(reduced, width, 3, padding=1)
        self.prior = None if prior is None else PriorGate(prior, width, prior_hidden, grid)
        self.text_projection = nn.Parameter(torch.randn(text, width) * text**-0.5)
        self.norm_image, self.norm_text = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = TextAttention(width, heads)
        self.gating = nn.Linear(width, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs)) for _ in range(experts)
        )

    def forward(self, features: Tensor, text: Tensor, prior: Tensor | None = None) -> Ratings:
        """Rate `features` `(B, crops, C, h, w)` given `text` `(B, tokens, width)` and `prior` `(B, crops, width)`."""
        return self.rate(self.fuse(self.seen(features, prior), self.norm_text(text @ self.text_projection)))

    def seen(self, features: Tensor, prior: Tensor | None) -> Tensor:
        """Return the crops' positions `(B, crops, h w, width)`."""
        f = F.relu(self.conv(self.down(features.flatten(0, 1))))
        if self.prior is not None:
            assert prior is not None
            f = self.prior(f, prior.flatten(0, 1))
        return self.norm_image(f.flatten(2).transpose(1, 2)).unflatten(0, features.shape[:2])

    def fuse(self, seen: Tensor, read: Tensor) -> Tensor:
        """Let the positions read the prompt and return `(B, crops, width)`."""
        # Every position reads the text on its own, so that all crops of an image can share one long sequence.
        sequence = seen.flatten(1, 2)
        sequence = sequence + self.attention(sequence, read)
        return sequence.unflatten(1, seen.shape[1:3]).mean(dim=2)

    def rate(self, fused: Tensor) -> Ratings:
        """Let the chosen experts rate what was fused."""
        gating = self.gating(fused).softmax(dim=-1)
        top = gating.topk(self.chosen, dim=-1)
        weights = torch.zeros_like(gating).scatter(-1, top.indices, top.values)
        expert_scores = torch.stack([expert(fused) for expert in self.experts], dim=-2)
        scores = (weights[..., None] * expert_scores).sum(dim=-2)
        return Ratings(scores, gating, top.indices, expert_scores, fused)
