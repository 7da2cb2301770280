"""The fusion network of MDIQA: how much each dimension counts for this picture, and what it is worth in all."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine.models.clip_surgery import CLIP_MEAN, CLIP_STD
from grefine.models.mdiqa_blocks import imagenet, regressor, self_attention, trunk


class InstanceWeights(nn.Module):
    """Predict the weight of every dimension from the picture itself."""

    def __init__(self, backbone: str, options: Mapping[str, Any], width: int, dimensions: int) -> None:
        super().__init__()
        self.trunk = trunk(backbone, options)
        channels = self.trunk.feature_info.channels()  # type: ignore[union-attr]
        self.reduce = nn.ModuleList(nn.Sequential(nn.Conv2d(c, width, 1), nn.GELU()) for c in channels)
        total = width * len(channels)
        self.score = nn.Sequential(
            nn.LayerNorm(total), nn.Linear(total, total), nn.GELU(), nn.Linear(total, dimensions)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return `(B, dimensions)` that sum to one."""
        levels = [reduce(x) for reduce, x in zip(self.reduce, self.trunk(imagenet(image)), strict=True)]
        grid = levels[-2].shape[-2:]  # the next-to-coarsest grid; the coarsest level is spread over it
        joined = torch.cat([F.adaptive_avg_pool2d(x, grid) for x in levels], dim=1)
        return self.score(joined.permute(0, 2, 3, 1)).mean(dim=(1, 2)).softmax(dim=-1)


class ClipSemantics(nn.Module):
    """Give a map of CLIP tokens; it never passes gradients, as in the published training."""

    def __init__(self, layers: Sequence[int], width: int, head_width: int, tokens: int, size: int, out: int) -> None:
        super().__init__()
        from open_clip.modified_resnet import ModifiedResNet

        self.size = size
        self.visual = ModifiedResNet(list(layers), tokens, width * 32 // head_width, size, width)
        self.project = nn.Conv2d(tokens, out, 1)

    def prepare(self, image: Tensor) -> Tensor:
        """Resize the shorter side to CLIP's size, cut the centre and standardise."""
        from torchvision.transforms.v2 import functional as TF  # noqa: N812

        image = TF.resize(image, [self.size], interpolation=TF.InterpolationMode.BICUBIC, antialias=True)
        image = TF.center_crop(image, [self.size, self.size])
        return TF.normalize(image, list(CLIP_MEAN), list(CLIP_STD))

    def tokens(self, feature: Tensor) -> Tensor:
        """Run attention pooling for every position, not only the mean: `(1 + h w, B, tokens)`."""
        pool = self.visual.attnpool
        x = feature.flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(dim=0, keepdim=True), x]) + pool.positional_embedding[:, None]
        return F.multi_head_attention_forward(
            x, x, x, x.shape[-1], pool.num_heads,
            in_proj_weight=None, in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
            bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0.0,
            out_proj_weight=pool.c_proj.weight, out_proj_bias=pool.c_proj.bias, training=False, need_weights=False,
            use_separate_proj_weight=True, q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight,
            v_proj_weight=pool.v_proj.weight,
        )[0]  # fmt: skip

    def train(self, mode: bool = True) -> "ClipSemantics":
        """Stay in evaluation mode: the statistics of a frozen network are not to drift."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Return `(B, out, h, w)`."""
        visual = self.visual
        x = visual.stem(self.prepare(image))
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = layer(x)
        tokens = self.tokens(x)[1:]
        return self.project(tokens.permute(1, 2, 0).unflatten(2, x.shape[-2:]))


class LocalScores(nn.Module):
    """Estimate every dimension again from its own features and the semantics, then the overall quality."""

    def __init__(self, dimensions: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.mix = nn.ModuleList(
            nn.Sequential(
                nn.Linear(2 * width, width // 2, bias=False), nn.GELU(), nn.Dropout(0.5),
                nn.Linear(width // 2, width, bias=False),
            )
            for _ in range(dimensions)
        )  # fmt: skip
        self.pools = nn.ModuleList(self_attention(width, heads, hidden) for _ in range(dimensions))
        self.scores = nn.ModuleList(regressor(width) for _ in range(dimensions))
        hidden_overall = 4 * dimensions
        self.overall = nn.Sequential(
            nn.Linear(dimensions, hidden_overall), nn.GELU(),
            nn.Linear(hidden_overall, hidden_overall), nn.GELU(), nn.Linear(hidden_overall, 1),
        )  # fmt: skip

    def forward(self, features: Sequence[Tensor], semantics: Tensor) -> Tensor:
        """Return `(B, dimensions)`."""
        semantics = F.interpolate(semantics, features[0].shape[-2:], mode="bicubic", align_corners=False)
        context = semantics.flatten(2).permute(2, 0, 1)
        scores = []
        for mix, pool, score, feature in zip(self.mix, self.pools, self.scores, features, strict=True):
            tokens = feature.flatten(2).permute(2, 0, 1)
            mixed = mix(torch.cat([tokens, context], dim=-1)) + tokens
            scores.append(score(pool(mixed).mean(dim=0)))
        return torch.cat(scores, dim=-1)


class Fusion(nn.Module):
    """Weigh the dimensions of one picture into one value."""

    def __init__(self, weights: InstanceWeights, semantics: ClipSemantics, local: LocalScores) -> None:
        super().__init__()
        self.weights, self.semantics, self.local = weights, semantics, local
