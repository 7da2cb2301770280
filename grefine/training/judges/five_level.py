"""The five-level CLIP judge q_w on rated pictures: fidelity loss over pairs of one set, all sets in every step."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from grefine.errors import WeightsMissing
from grefine.models.five_level import FiveLevelCLIP
from grefine.scorers.convert import read_state
from grefine.training.datasets.rated import RatedImage, RatedImages
from grefine.training.judges.pool import Part, Sample
from grefine.training.judges.stage import RatedRecipe, Stage
from grefine.training.losses import Phi, rated_fidelity


@dataclass(frozen=True)
class FiveLevelRecipe(RatedRecipe):
    """`start` knows clip: the state dict of OpenAI's CLIP, or a saved judge's folder; `batch` is of every set."""

    stage: Literal["judge"] = "judge"
    windows: int = 3
    """Random windows per picture and step."""
    phi: Phi = "paper"


class FiveLevelStage(Stage):
    """Train the whole CLIP but its scale."""

    name, grouping = "five_level", "each"

    def __init__(self, recipe: FiveLevelRecipe, sets: Sequence[RatedImages]) -> None:
        self.recipe, path = recipe, Path(recipe.start.get("clip", ""))
        if "clip" not in recipe.start:
            if not recipe.geometry:
                raise WeightsMissing(
                    "The judge starts from OpenAI's CLIP ViT-B/32: give its state dict as `--start clip=FILE`, or a "
                    "`geometry` to train a small one from scratch."
                )
            self.module = FiveLevelCLIP(**recipe.geometry)
        elif path.is_dir():
            self.module = FiveLevelCLIP.from_pretrained(path)
        else:
            self.module = FiveLevelCLIP.from_reference({"clip": read_state(path)})

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        return {"windows": self.module.read_windows(image, generator, self.recipe.windows)}

    def loss(self, parts: Sequence[Part]) -> dict[str, Tensor]:
        text = self.module.text_features()
        losses = [
            rated_fidelity(self.module(views["windows"], text=text).quality, labels[:, 0], self.recipe.phi)
            for _, views, labels in parts
        ]
        return {"loss": torch.stack(losses).sum()}

    def rate(self, image: Image.Image, row: RatedImage) -> Tensor:
        return self.module.judge([image]).quality
