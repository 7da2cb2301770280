"""The five-level CLIP judge q_w on rated pictures: fidelity loss over pairs of one set, all sets in every step."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from grefine.errors import WeightsCorrupt, WeightsMissing
from grefine.io.images import read_image
from grefine.models.five_level import FiveLevelCLIP
from grefine.training.datasets.rated import RatedImage, RatedImages
from grefine.training.judges.pool import Batch, Sample
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
        self.recipe, self.module = recipe, start_model(recipe)

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        return {"windows": self.module.read_windows(image, generator, self.recipe.windows)}

    def loss(self, parts: Sequence[tuple[Batch, Sample, Tensor]]) -> dict[str, Tensor]:
        text = self.module.text_features()
        losses = [
            rated_fidelity(self.module(views["windows"], text=text).quality, labels[:, 0], self.recipe.phi)
            for _, views, labels in parts
        ]
        return {"loss": torch.stack(losses).sum()}

    def rate(self, row: RatedImage) -> Tensor:
        return self.module.judge([read_image(row.path).rgb]).quality


def start_model(recipe: FiveLevelRecipe) -> FiveLevelCLIP:
    """Return the judge that training begins with."""
    start = recipe.start.get("clip", "")
    if not start:
        if not recipe.geometry:
            raise WeightsMissing(
                "The judge starts from OpenAI's CLIP ViT-B/32: give its state dict as `--start clip=FILE`, or a "
                "`geometry` to train a small one from scratch."
            )
        return FiveLevelCLIP(**recipe.geometry)
    path = Path(start)
    if path.is_dir():
        return FiveLevelCLIP.from_pretrained(path)
    if not path.is_file():
        raise WeightsMissing(f"There is nothing at '{path}' to start from.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: dict[str, Any] = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - readers raise whatever they meet in a damaged file
        raise WeightsCorrupt(f"'{path}' cannot be read as a state dict of tensors.") from error
    return FiveLevelCLIP.from_reference({"clip": state})
