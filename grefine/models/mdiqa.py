"""MDIQA: nine quality dimensions and an overall score of one image, usable as a metric, a loss or a guide.

After "MDIQA: Unified Image Quality Assessment for Multi-dimensional Evaluation and Restoration" (arXiv 2508.16887)
and the released code YaoShunyu19/MDIQA at 8b2f775.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from grefine.errors import ConfigError, ImageError, nearest
from grefine.models.mdiqa_blocks import DimensionNet
from grefine.models.mdiqa_fusion import ClipSemantics, Fusion, InstanceWeights, LocalScores
from grefine.models.reference import load_reference, rename

TECHNICAL = ("brightness", "colorfulness", "contrast", "noisiness", "sharpness")
AESTHETIC = ("color", "composition", "content", "light")
DIMENSIONS = TECHNICAL + AESTHETIC
"""The published order of scores, weights and ratios; higher is better for all (much noise is a low noisiness)."""

_RENAMES = (
    (r"^cfanet_backbone\.semantic_model\.", "trunk."),
    (r"^cfanet_backbone\.weight_pool\.(\d+)\.splitconv\.", r"gates.\1.split."),
    (r"^cfanet_backbone\.weight_pool\.(\d+)\.weight_blk\.", r"gates.\1.weight."),
    (r"^cfanet_backbone\.dim_reduce\.", "reduce."),
    (r"^cfanet_heads\.(\d+)\.h_emb$", r"heads.\1.rows"),
    (r"^cfanet_heads\.(\d+)\.w_emb$", r"heads.\1.columns"),
    (r"^cfanet_heads\.(\d+)\.sa_attn_blks\.(\d+)\.layers\.0\.", r"heads.\1.self_blocks.\2."),
    (r"^cfanet_heads\.(\d+)\.attn_blks\.(\d+)\.layers\.0\.multihead_attn\.", r"heads.\1.cross_blocks.\2.attention."),
    (r"^cfanet_heads\.(\d+)\.attn_blks\.(\d+)\.layers\.0\.", r"heads.\1.cross_blocks.\2."),
    (r"^cfanet_heads\.(\d+)\.attn_pool\.", r"heads.\1.pool."),
    (r"^cfanet_heads\.(\d+)\.score_linear\.", r"heads.\1.score."),
    (r"^instance_specific_weighted_branch\.semantic_model\.", "weights.trunk."),
    (r"^instance_specific_weighted_branch\.dim_reduce\.", "weights.reduce."),
    (r"^instance_specific_weighted_branch\.score_linear\.", "weights.score."),
    (r"^semantic_model\.visual\.", "semantics.visual."),
    (r"^semantic_feat_conv\.", "semantics.project."),
    (r"^local_score_module\.fusion_before_attn\.(\d+)\.in_ln\.", r"local.mix.\1.0."),
    (r"^local_score_module\.fusion_before_attn\.(\d+)\.out_ln\.", r"local.mix.\1.3."),
    (r"^local_score_module\.attn_pools\.", "local.pools."),
    (r"^local_score_module\.score_linears\.", "local.scores."),
    (r"^local_score_module\.net\.", "local.overall."),
)
# Entries that take no part in any output: a self-attention the cross layer owns but never runs, CLIP's text half,
# and the weights of an experiment per data set.
_UNUSED = re.compile(
    r"\.attn_blks\.\d+\.layers\.0\.self_attn\.|^semantic_model\.(?!visual\.)|^dataset_specific_weights"
)


@dataclass(frozen=True, slots=True)
class MDIQAOutput:
    """What MDIQA says about a batch."""

    dimensions: Mapping[str, Tensor]
    """Score `(B,)` by dimension, about 0..1, not squashed."""
    features: Mapping[str, Tensor] = field(default_factory=dict)
    """`(B, width, h, w)` by dimension: the features of the full-reference distance."""
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    """`(B, width)` by dimension, pooled."""
    overall: Tensor | None = None
    """`(B,)`; None when it was not asked for."""
    weights: Tensor | None = None
    """`(B, dimensions)`, how much each dimension counts; sums to one before any ratio."""
    local_scores: Tensor | None = None
    """`(B, dimensions)`, the second estimate that only enters `overall`."""


class MDIQA(ModelMixin, ConfigMixin):
    """Score nine dimensions and the overall quality.

    Backbones are timm's names. `width`, `heads` and `hidden` are of every dimension's head (hidden None: 4 x width, at
    most 2048), `weight_*` of the branch that weighs the dimensions, `local_*` of the fusion, `clip_*` of the ResNet of
    CLIP. Without `with_overall` everything is left out that only the overall score needs. `minimum` is the smallest
    side in pixels, `resize` the shorter side to which images are brought first.
    """

    @register_to_config
    def __init__(
        self,
        backbone: str = "resnet50",
        backbone_options: dict[str, Any] | None = None,
        width: int = 256,
        heads: int = 4,
        hidden: int | None = None,
        gate_width: int = 64,
        weight_backbone: str = "mobilenetv3_large_100",
        weight_backbone_options: dict[str, Any] | None = None,
        weight_width: int = 256,
        local_heads: int = 4,
        local_hidden: int = 1024,
        clip_layers: tuple[int, ...] = (3, 4, 6, 3),
        clip_width: int = 64,
        clip_head_width: int = 64,
        clip_tokens: int = 1024,
        clip_size: int = 224,
        with_overall: bool = True,
        minimum: int = 32,
        resize: int | None = None,
    ) -> None:
        super().__init__()
        inner = min(4 * width, 2048) if hidden is None else hidden
        options = backbone_options or {}
        self.technology = DimensionNet(backbone, options, len(TECHNICAL), width, heads, inner, gate_width)
        self.aesthetic = DimensionNet(backbone, options, len(AESTHETIC), width, heads, inner, gate_width)
        self.fusion = None
        if with_overall:
            self.fusion = Fusion(
                InstanceWeights(weight_backbone, weight_backbone_options or {}, weight_width, len(DIMENSIONS)),
                ClipSemantics(clip_layers, clip_width, clip_head_width, clip_tokens, clip_size, width),
                LocalScores(len(DIMENSIONS), width, local_heads, local_hidden),
            )

    @classmethod
    def from_reference(cls, groups: Mapping[str, Mapping[str, Any]], **options: Any) -> "MDIQA":
        """Build the model from state dicts as the published code writes them."""
        model = cls(**{"with_overall": "fusion" in groups, **options})
        wanted = {"technology": model.technology, "aesthetic": model.aesthetic}
        if model.fusion is not None:
            wanted["fusion"] = model.fusion
        load_reference(wanted, {name: rename(state, _RENAMES, _UNUSED) for name, state in groups.items()}, "MDIQA")
        return model.eval()

    def score(self, image: Tensor, dimensions: Iterable[str] = DIMENSIONS) -> MDIQAOutput:
        """Score only the dimensions asked; a net whose dimensions are not asked does not run."""
        asked = known_dimensions(dimensions)
        image = self._fit(image)
        scores: dict[str, Tensor] = {}
        features: dict[str, Tensor] = {}
        tokens: dict[str, Tensor] = {}
        for net, names in ((self.technology, TECHNICAL), (self.aesthetic, AESTHETIC)):
            if not set(names) & set(asked):
                continue
            levels = net.levels(image)
            for name, head in zip(names, net.heads, strict=True):
                if name in asked:
                    scores[name], features[name], tokens[name] = head(levels)
        return MDIQAOutput(scores, features, tokens)

    def forward(
        self, image: Tensor, weight_ratio: Sequence[float] | Tensor | None = None, detach_weights: bool = False
    ) -> MDIQAOutput:
        """Score all of `(B, 3, H, W)` in 0..1; nine factors `weight_ratio` on the weights are not renormalised."""
        if self.fusion is None:
            raise ConfigError("This MDIQA has no fusion network: `score` gives its dimensions.")
        fitted = self._fit(image)
        known = self.score(fitted)
        weights = self.fusion.weights(fitted)
        local = self.fusion.local(list(known.features.values()), self.fusion.semantics(fitted))
        effective = weights.detach() if detach_weights else weights
        if weight_ratio is not None:
            effective = effective * torch.as_tensor(weight_ratio, device=weights.device, dtype=weights.dtype)
        both = local + torch.stack(list(known.dimensions.values()), dim=-1)
        overall = self.fusion.local.overall(both * effective)[:, 0]
        return MDIQAOutput(known.dimensions, known.features, known.tokens, overall, weights, local)

    def _fit(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        minimum, resize = self.config["minimum"], self.config["resize"]
        if min(height, width) < minimum:
            raise ImageError(f"MDIQA needs at least {minimum} pixels a side, not {width}x{height}; enlarge the image.")
        if resize is None or min(height, width) == resize:
            return image
        scale = resize / min(height, width)
        size = (max(resize, round(height * scale)), max(resize, round(width * scale)))
        return nn.functional.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def known_dimensions(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names in the published order."""
    asked = set(names)
    for name in asked - set(DIMENSIONS):
        raise ConfigError(f"MDIQA has no dimension '{name}': {', '.join(DIMENSIONS)}{nearest(name, DIMENSIONS)}")
    return tuple(name for name in DIMENSIONS if name in asked)


class MDIQALoss(nn.Module):
    """Tune a restorer by named quality dimensions.

    Without a reference the loss pulls scores up; with one it pulls the features of the output to those of the truth.
    No-reference forms invite artefacts when used alone: add them to a pixel loss.

    The model is frozen here. Weights say how much each dimension counts, by name; those left out count nothing and are
    not run. "overall" reads them as ratios; there `attach_weights` lets gradients change which dimensions count, as
    the released code would.
    """

    def __init__(
        self,
        model: MDIQA,
        weights: Mapping[str, float] | None = None,
        mode: Literal["dimensions", "overall", "reference"] = "dimensions",
        distance: Literal["l1", "mse"] = "l1",
        attach_weights: bool = False,
    ) -> None:
        super().__init__()
        if mode not in ("dimensions", "overall", "reference"):
            raise ConfigError(f"mode must be dimensions, overall or reference, not '{mode}'.")
        if distance not in ("l1", "mse"):
            raise ConfigError(f"distance must be l1 or mse, not '{distance}'.")
        given = dict.fromkeys(DIMENSIONS, 1.0) if weights is None else dict(weights)
        known_dimensions(given)
        if mode == "reference" and any(value < 0 for value in given.values()):
            raise ConfigError("Weights of a distance cannot be negative: leave the dimension out instead.")
        if not any(given.values()):
            raise ConfigError("All weights are zero: give at least one dimension a weight.")
        rest = 1.0 if mode == "overall" else 0.0
        self.weights = {name: float(given.get(name, rest)) for name in DIMENSIONS}
        self.mode, self.distance, self.attach_weights = mode, distance, attach_weights
        self.model = model.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "MDIQALoss":
        """Keep the judge in evaluation mode whatever the restorer does."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, image: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the loss of `(B, 3, H, W)` images in 0..1."""
        if (target is not None) != (self.mode == "reference"):
            wants = "needs the true image as well" if target is None else "takes no true image"
            raise ImageError(f"MDIQALoss in mode '{self.mode}' {wants}.")
        if self.mode == "overall":
            result = self.model(image, list(self.weights.values()), detach_weights=not self.attach_weights)
            return (1 - result.overall).mean()
        active = [name for name in DIMENSIONS if self.weights[name]]
        total = sum(abs(self.weights[name]) for name in active)
        found = self.model.score(image, active)
        if target is None:
            parts = [self.weights[name] * (1 - found.dimensions[name]).mean() for name in active]
        else:
            if target.shape != image.shape:
                raise ImageError(f"Output {tuple(image.shape)} and true image {tuple(target.shape)} differ in size.")
            with torch.no_grad():
                truth = self.model.score(target, active)
            metric = nn.functional.l1_loss if self.distance == "l1" else nn.functional.mse_loss
            parts = [self.weights[name] * metric(found.features[name], truth.features[name]) for name in active]
        return torch.stack(parts).sum() / total
