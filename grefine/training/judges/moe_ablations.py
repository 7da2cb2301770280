"""MoE-AGIQA with parts taken away: the switches of its ablation tables.

The prior is a matter of geometry (`prior_depth`), and so are the tapped blocks, the number of experts and how many of
them are chosen; what is frozen and how many crops are seen are settings of the recipe. The rest is here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine.errors import ConfigError
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.models.moe_agiqa_head import MoEHead, Ratings


@dataclass(frozen=True)
class Ablation:
    """What is kept."""

    image: bool = True
    """The features of the crops (visual degradation); without, the prompt's tokens alone are pooled and rated."""
    prompt: bool = True
    """The prompt that reads the picture (semantics)."""
    attention: bool = True
    """Crop positions read the prompt by attention; without, the two pooled vectors are added."""
    mixture: bool = True
    """Several experts behind a gate; without, one."""

    def __post_init__(self) -> None:
        if not self.image and not self.prompt:
            raise ConfigError("An ablation must leave the image or the prompt.")


class AblatedHead(MoEHead):
    """The head with some of its parts; built from a whole one, whose weights it takes over."""

    def __init__(self, whole: MoEHead, kept: Ablation) -> None:
        nn.Module.__init__(self)
        self.kept, self.chosen = kept, whole.chosen if kept.mixture else 1
        self.down, self.conv, self.prior = (whole.down, whole.conv, whole.prior) if kept.image else (None,) * 3
        self.norm_image = whole.norm_image if kept.image else None
        self.text_projection = whole.text_projection if kept.prompt else None
        self.norm_text = whole.norm_text if kept.prompt else None
        self.attention = whole.attention if kept.image and kept.prompt and kept.attention else None
        self.gating = whole.gating if kept.mixture else None
        self.experts = whole.experts if kept.mixture else nn.ModuleList([whole.experts[0]])

    def forward(self, features: Tensor, text: Tensor, prior: Tensor | None = None) -> Ratings:
        """Rate as `MoEHead` does, with what is left."""
        batch, crops = features.shape[:2]
        fused = self._seen(features, text, prior, batch, crops)
        if self.gating is None:
            gating = torch.ones(*fused.shape[:2], 1, device=fused.device, dtype=fused.dtype)
        else:
            gating = self.gating(fused).softmax(dim=-1)
        top = gating.topk(self.chosen, dim=-1)
        weights = torch.zeros_like(gating).scatter(-1, top.indices, top.values)
        expert_scores = torch.stack([expert(fused) for expert in self.experts], dim=-2)
        return Ratings((weights[..., None] * expert_scores).sum(-2), gating, top.indices, expert_scores, fused)

    def _seen(self, features: Tensor, text: Tensor, prior: Tensor | None, batch: int, crops: int) -> Tensor:
        read = None
        if self.norm_text is not None and self.text_projection is not None:
            read = self.norm_text(text @ self.text_projection)
        if self.down is None or self.conv is None or self.norm_image is None:
            if read is None:
                raise ConfigError("An ablation must leave the image or the prompt.")
            return read.mean(1)[:, None].expand(-1, crops, -1)
        f = F.relu(self.conv(self.down(features.flatten(0, 1))))
        if self.prior is not None and prior is not None:
            f = self.prior(f, prior.flatten(0, 1))
        f = self.norm_image(f.flatten(2).transpose(1, 2)).unflatten(0, (batch, crops))
        if read is None:
            return f.mean(2)
        if self.attention is None:
            return f.mean(2) + read.mean(1)[:, None]
        sequence = f.flatten(1, 2)
        return (sequence + self.attention(sequence, read)).unflatten(1, (crops, -1)).mean(2)


def ablate(model: MoEAGIQA, kept: Ablation) -> None:
    """Take parts of the head away, where any are to go; such a network is for study and no pipeline loads it."""
    if not all(asdict(kept).values()):
        model.head = AblatedHead(model.head, kept)
