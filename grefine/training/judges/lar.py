"""LAR-IQA on rated pictures: each branch alone on several sets at once, then both with the common head."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError
from grefine.models.lar_iqa import LARIQA, ColorSpace, LARBranch
from grefine.training.datasets.rated import RatedImage, RatedImages
from grefine.training.judges.pool import Part, Sample
from grefine.training.judges.stage import RatedRecipe, Stage, begin_with, load_saved, part_options, save_state

_BRANCH = {"encoder": "mobilenetv3_large_100", "encoder_options": {}, "features": 1000, "whole_size": 384}
_BRANCH |= {"crop_size": 1280}


@dataclass(frozen=True)
class LARRecipe(RatedRecipe):
    """`start` knows encoder (branches), and authentic and synthetic (merged)."""

    stage: Literal["authentic", "synthetic", "merged"] = "merged"
    color_spaces: tuple[ColorSpace, ...] = ("RGB",)
    """A branch sees every picture in one of these, drawn at random; the merged network knows one."""
    error_weight: float = 1.0
    correlation_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.color_spaces or (self.stage == "merged" and len(self.color_spaces) > 1):
            raise ConfigError("color_spaces names what a branch may see, and for the merged LAR-IQA the one it sees.")


class BranchStage(Stage):
    """Stage 1: one encoder, one linear head for each set; the second stage takes the encoder alone."""

    grouping = "sets"

    def __init__(self, recipe: LARRecipe, sets: Sequence[RatedImages]) -> None:
        self.recipe, self.name = recipe, recipe.stage
        options = part_options(_BRANCH, recipe.geometry, "A branch's geometry")
        self.about = {"part": self.name, "sets": [data.name for data in sets], "color_space": recipe.color_spaces[0]}
        self.about |= options
        self.module: LARBranch = LARBranch.of(self.about)
        self.part, self.heads = self.module.encoder, self.module.heads
        begin_with(self.part, recipe.start, "encoder")
        self._known = {id(row): index for index, data in enumerate(sets) for row in data.rows}

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        return {"image": self.module.views(image, rng.choice(self.recipe.color_spaces))[0][0]}

    def loss(self, parts: Sequence[Part]) -> dict[str, Tensor]:
        part, views, labels = parts[0]
        return compare(self.recipe, self.module(views["image"], part.source), labels[:, 0])

    def rate(self, image: Image.Image, row: RatedImage) -> Tensor:
        """Rate in the first colour space with the head of the picture's own set; with the first for other sets."""
        (view,) = self.module.views(image)
        return self.module(view.to(next(self.module.parameters())), self._known.get(id(row), 0))

    def save(self, folder: Path) -> None:
        super().save(folder)
        save_state(self.heads, folder / "heads", {"part": "heads", "sets": self.about["sets"]})

    def load(self, folder: Path) -> None:
        super().load(folder)
        load_saved(self.heads, folder / "heads")


class MergedStage(Stage):
    """Stage 2: both encoders and a fresh head, end to end."""

    name = "lar_iqa"

    def __init__(self, recipe: LARRecipe, sets: Sequence[RatedImages]) -> None:
        self.recipe = recipe
        options: dict[str, Any] = {"color_space": recipe.color_spaces[0]} | recipe.geometry
        self.module = LARIQA(**options)
        begin_with(self.module.authentic, recipe.start, "authentic")
        begin_with(self.module.synthetic, recipe.start, "synthetic")

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        whole, crop = self.module.views(image)
        return {"whole": whole[0], "crop": crop[0]}

    def loss(self, parts: Sequence[Part]) -> dict[str, Tensor]:
        _, views, labels = parts[0]
        return compare(self.recipe, self.module(views["whole"], views["crop"]), labels[:, 0])

    def rate(self, image: Image.Image, row: RatedImage) -> Tensor:
        weight = next(self.module.parameters())
        return self.module(*(view.to(weight) for view in self.module.views(image)))


def compare(recipe: LARRecipe, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return squared error plus what is missing to full correlation within the batch."""
    error, missing = F.mse_loss(scores, labels), 1 - batch_pearson(scores, labels)
    loss = recipe.error_weight * error + recipe.correlation_weight * missing
    return {"loss": loss, "mse": error, "pearson": missing}


def batch_pearson(scores: Tensor, labels: Tensor) -> Tensor:
    """Return Pearson's r as the published loss has it: deviations over n - 1, the mean of products over n.

    A perfect batch of n therefore gives 1 - 1 / n. A batch whose labels are all equal has no order to follow: 1.
    """
    if len(scores) < 2 or float(labels.std()) == 0:
        return torch.ones((), device=scores.device)
    a, b = ((x - x.mean()) / (x.std() + 1e-8) + 1e-5 for x in (scores, labels))
    return (a * b).mean()
