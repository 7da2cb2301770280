"""MDIQA on rated pictures: a net of technical dimensions, one of aesthetic ones, then the fusion to one score."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

from grefine.errors import ConfigError
from grefine.models.lar_iqa import centre_crop
from grefine.models.mdiqa import AESTHETIC, MDIQA, TECHNICAL
from grefine.models.mdiqa_blocks import CrossAttention, DimensionNet
from grefine.scorers.protocol import to_tensor
from grefine.training.datasets.rated import RatedImage, RatedImages
from grefine.training.judges.pool import Part, Sample, random_crop, shorter_side
from grefine.training.judges.stage import RatedRecipe, Stage, begin_with, part_options
from grefine.training.losses import norm_in_norm

_NET = {"backbone": "resnet50", "backbone_options": {}, "width": 256, "heads": 4, "hidden": None, "gate_width": 64}


@dataclass(frozen=True)
class MDIQARecipe(RatedRecipe):
    """`start` knows trunk (technical, aesthetic), and technology, aesthetic, weights and clip (fusion)."""

    stage: Literal["technical", "aesthetic", "fusion"] = "technical"
    crop: int = 384
    train_side: int = 0
    """Shorter side to which pictures are brought before they are cropped; 0 leaves them."""
    test_side: int = 0
    test_crop: int = 0
    """Side of the middle square that is evaluated; 0 takes the whole picture."""
    norm_weight: float = 1.0
    error_weight: float = 1.0
    trunk_steps: int = 0
    """Steps after which the trunk is frozen and the optimiser forgets; 0 trains it to the end."""


class _Cropped(Stage):
    recipe: MDIQARecipe

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        if self.recipe.train_side:
            image = shorter_side(image, self.recipe.train_side)
        image = ImageOps.mirror(image) if rng.random() < 0.5 else image
        return {"image": to_tensor(random_crop(image, self.recipe.crop, rng))}

    def evaluated(self, image: Image.Image) -> Tensor:
        if self.recipe.test_side:
            image = shorter_side(image, self.recipe.test_side)
        if self.recipe.test_crop:
            image = centre_crop(image, self.recipe.test_crop)
        return to_tensor(image)[None].to(next(self.module.parameters()))


class DimensionStage(_Cropped):
    """Train the technical or the aesthetic net: every step adds up one batch for every dimension."""

    grouping = "columns"

    def __init__(self, recipe: MDIQARecipe, sets: Sequence[RatedImages]) -> None:
        self.recipe = recipe
        technical = recipe.stage == "technical"
        self.name, self.columns = ("technology", TECHNICAL) if technical else ("aesthetic", AESTHETIC)
        for data in sets:
            for name in self.columns:
                data.labels(name)
        options = part_options(_NET, recipe.geometry, "A dimension net's geometry")
        hidden = min(4 * options["width"], 2048) if options["hidden"] is None else options["hidden"]
        shape = (options["width"], options["heads"], hidden, options["gate_width"])
        self.about = {"part": self.name} | options
        self.net = DimensionNet(options["backbone"], options["backbone_options"], len(self.columns), *shape)
        begin_attention(self.net)
        begin_with(self.net.trunk, recipe.start, "trunk")
        self.module = self.part = self.net
        fix_statistics(self.net.trunk)

    def train(self, step: int) -> bool:
        """Keep the trunk's statistics; freeze it when its time is over."""
        self.net.train()
        fix_statistics(self.net.trunk)
        over = self.recipe.trunk_steps
        if over and step >= over:
            self.net.trunk.requires_grad_(False)
        return bool(over) and step == over

    def loss(self, parts: Sequence[Part]) -> dict[str, Tensor]:
        losses = []
        for part, views, labels in parts:
            levels = self.net.levels(views["image"])
            scores = self.net.heads[part.column](levels)[0]
            losses.append(_compare(self.recipe, scores, labels[:, part.column]))
        named = dict(zip(self.columns, losses, strict=True))
        return {"loss": torch.stack(losses).sum()} | named

    def rate(self, image: Image.Image, row: RatedImage) -> Tensor:
        levels = self.net.levels(self.evaluated(image))
        return torch.cat([head(levels)[0] for head in self.net.heads])


class FusionStage(_Cropped):
    """Train what turns nine frozen dimensions into one score."""

    name = "mdiqa"

    def __init__(self, recipe: MDIQARecipe, sets: Sequence[RatedImages]) -> None:
        self.recipe = recipe
        self.module = MDIQA(**recipe.geometry)
        if self.module.fusion is None:
            raise ConfigError("The fusion stage cannot train an MDIQA with `with_overall: false`.")
        begin_with(self.module.technology, recipe.start, "technology", frozen=True)
        begin_with(self.module.aesthetic, recipe.start, "aesthetic", frozen=True)
        self.fusion: Any = self.module.fusion
        begin_with(self.fusion.weights.trunk, recipe.start, "weights")
        begin_with(self.fusion.semantics.visual, recipe.start, "clip", frozen=True)
        begin_attention(self.fusion.local)
        # The last layers are drawn positive, so that at first a better dimension never lowers the overall score.
        for layer in self.fusion.local.overall.modules():
            if isinstance(layer, nn.Linear):
                for parameter in (layer.weight, layer.bias):
                    parameter.data.copy_((torch.randn(parameter.shape) * 0.1).abs())
        for part in (self.module.technology, self.module.aesthetic, self.fusion.semantics):
            part.requires_grad_(False)

    def train(self, step: int) -> bool:
        """Train the fusion alone; everything frozen stays in evaluation mode."""
        self.module.eval()
        self.fusion.train()
        self.fusion.semantics.eval()
        fix_statistics(self.fusion.weights.trunk)
        return False

    def loss(self, parts: Sequence[Part]) -> dict[str, Tensor]:
        _, views, labels = parts[0]
        return {"loss": _compare(self.recipe, self.module(views["image"]).overall, labels[:, 0])}

    def rate(self, image: Image.Image, row: RatedImage) -> Tensor:
        return self.module(self.evaluated(image)).overall


def _compare(recipe: MDIQARecipe, scores: Tensor, labels: Tensor) -> Tensor:
    return recipe.norm_weight * norm_in_norm(scores, labels) + recipe.error_weight * F.mse_loss(scores, labels)


def fix_statistics(trunk: nn.Module) -> None:
    """Keep batch normalisation as it was pre-trained: neither its statistics nor its scale and shift move."""
    for module in trunk.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            module.requires_grad_(False)


def begin_attention(net: nn.Module) -> None:
    """Draw the linear layers of attention blocks as the published code does (Kaiming, normal)."""
    for block in net.modules():
        if isinstance(block, (nn.TransformerEncoderLayer, CrossAttention)):
            for layer in block.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.kaiming_normal_(layer.weight)
