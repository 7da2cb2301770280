"""MoE-AGIQA on rated pictures: the quality prior, then the whole network, with its ablations."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoTokenizer

from grefine.errors import ConfigError
from grefine.models.moe_agiqa import MoEAGIQA, vit
from grefine.models.moe_agiqa_head import MoEHead, Ratings
from grefine.models.reference import load_group
from grefine.models.reward import RewardModel, semantic_view
from grefine.scorers.component import load_component
from grefine.scorers.moe_agiqa import MoEAGIQAScorer
from grefine.scorers.protocol import to_tensor, tokens
from grefine.training.datasets.rated import MOS, RatedImage, RatedImages
from grefine.training.judges.pool import Part, Sample, random_crop
from grefine.training.judges.stage import RatedRecipe, Stage, begin_with, named_start, part_options


@dataclass(frozen=True)
class Ablation:
    image: bool = True
    """The features of the crops (visual degradation); without, the prompt's tokens alone are pooled and rated."""
    prompt: bool = True
    """The prompt that reads the picture (semantics)."""
    mixture: bool = True
    """Several experts behind a gate; without, one."""

    def __post_init__(self) -> None:
        if not self.image and not self.prompt:
            raise ConfigError("An ablation must leave the image or the prompt.")


class AblatedHead(MoEHead):
    """The head with some of its parts, built from a whole one; it is for study, and no pipeline loads it."""

    def __init__(self, whole: MoEHead, kept: Ablation) -> None:
        nn.Module.__init__(self)
        self.kept, self.chosen = kept, whole.chosen if kept.mixture else 1
        names = ("down", "conv", "prior", "norm_image") * kept.image + ("text_projection", "norm_text") * kept.prompt
        names += ("attention",) * (kept.image and kept.prompt)
        for name in names:
            setattr(self, name, getattr(whole, name))
        self.gating, self.experts = whole.gating, whole.experts
        if not kept.mixture:  # one logit, whatever it is, gives its expert everything
            self.gating, self.experts = nn.Linear(whole.gating.in_features, 1), whole.experts[:1]

    def forward(self, features: Tensor, text: Tensor, prior: Tensor | None = None) -> Ratings:
        if not self.kept.prompt:
            return self.rate(self.seen(features, prior).mean(2))
        read = self.norm_text(text @ self.text_projection)
        if not self.kept.image:
            return self.rate(read.mean(1)[:, None].expand(-1, features.shape[1], -1))
        return self.rate(self.fuse(self.seen(features, prior), read))


@dataclass(frozen=True)
class MoERecipe(RatedRecipe):
    """The published recipe is the default; `start` knows vit, vit_prior and reward (for the prior: vit)."""

    stage: Literal["prior", "main"] = "main"
    crops: int = 3
    """Random crops of a picture per step, whose scores are averaged before they are compared."""
    frozen_share: float = 0.5
    """Of the layers of both encoders of the reward network (of the ViT, for the prior)."""
    drop_path: float = 0.1
    """Stochastic depth of the last block of the image encoder; it rises linearly from the first."""
    tokenizer: str = "bert-base-uncased"
    ablation: Ablation = Ablation()


_PRIOR = {"crop_size": 224, "crop_patch": 16, "crop_width": 768, "prior_depth": 12, "crop_heads": 12}


class PriorStage(Stage):
    """Pre-train the ViT of version 2 on photographs; the regressor is thrown away."""

    name = "vit_prior"

    def __init__(self, recipe: MoERecipe, sets: Sequence[RatedImages]) -> None:
        options = part_options(_PRIOR, recipe.geometry, "The prior's geometry")
        self.recipe, self.about = recipe, {"part": "vit_prior"} | options
        self.size, width = options["crop_size"], options["crop_width"]
        shape = (self.size, options["crop_patch"], width, options["prior_depth"], options["crop_heads"])
        self.part: Any = vit(*shape, final_norm=True)
        begin_with(self.part, recipe.start, "vit", frozen=recipe.frozen_share > 0)
        self.regressor = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.module = nn.ModuleDict({"vit": self.part, "regressor": self.regressor})
        depth = int(recipe.frozen_share * options["prior_depth"])
        below = ["cls_token", "pos_embed", "patch_embed.", *(f"blocks.{n}." for n in range(depth))]
        freeze_until(self.part, below, f"blocks.{depth}.norm1.weight")

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        return {"crops": random_crops(image, self.size, self.recipe.crops, rng)}

    def loss(self, parts: Sequence[Part]) -> dict[str, Tensor]:
        _, views, labels = parts[0]
        return {"loss": (self._rated(views["crops"]).mean(1) - labels[:, 0]).abs().mean()}

    def rate(self, image: Image.Image, row: RatedImage) -> Tensor:
        crops = random_crops(image, self.size, 15, random.Random(20))
        return self._rated(crops[None].to(next(self.part.parameters()))).mean()

    def _rated(self, crops: Tensor) -> Tensor:
        token = self.part.forward_features(crops.flatten(0, 1))[:, 0]
        return self.regressor(token)[:, 0].unflatten(0, crops.shape[:2])


class MainStage(Stage):
    """Train head and upper half of the reward network; both ViTs stay as they came."""

    name = "moe_agiqa"

    def __init__(self, recipe: MoERecipe, sets: Sequence[RatedImages]) -> None:
        bare = [data.name for data in sets if not all(row.prompt for row in data.rows)]
        if bare and recipe.ablation.prompt:
            raise ConfigError(
                f"'{bare[0]}' has pictures without a prompt, which MoE-AGIQA reads: add them, or train the prior."
            )
        self.recipe = recipe
        self.module = model = MoEAGIQA(**recipe.geometry)
        known: dict[str, Any] = {"vit": model.vit, "vit_prior": model.vit_prior}
        self.priors = {name: part for name, part in known.items() if part is not None}
        for name, part in self.priors.items():
            begin_with(part, recipe.start, name, frozen=recipe.ablation.image)
        if reward := named_start(recipe.start, "reward", frozen=recipe.frozen_share > 0):
            loaded = load_component(RewardModel, Path(reward), "cpu")
            load_group(model.vision, loaded.vision.state_dict(), f"'{reward}'")
            load_group(model.text, loaded.text.state_dict(), f"'{reward}'")
        if not all(asdict(recipe.ablation).values()):
            model.head = AblatedHead(model.head, recipe.ablation)
        self.columns = tuple(MOS if name == "quality" else name for name in model.config["outputs"])
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(recipe.tokenizer)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"The tokenizer '{recipe.tokenizer}' is not on this machine and could not be fetched: name a folder "
                "that holds it."
            ) from error
        for part in self.priors.values():
            part.requires_grad_(False)
        for tower, layers, last in (
            (model.text, "encoder.layer", "attention.self.query.weight"),
            (model.vision, "encoder.layers", "layer_norm1.weight"),
        ):
            depth = int(recipe.frozen_share * len(tower.get_submodule(layers)))  # type: ignore[arg-type]
            below = ["embeddings.", *(f"{layers}.{n}." for n in range(depth))]
            freeze_until(tower, below, f"{layers}.{depth}.{last}")
        drop_paths(model.vision, recipe.drop_path)

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        config = self.module.config
        crops = random_crops(image, config["crop_size"], self.recipe.crops, rng)
        ids, mask = tokens(self.tokenizer, [row.prompt or " "], config["text_length"], torch.device("cpu"))
        whole = semantic_view(image, config["image_size"])[0]
        return {"crops": crops, "view": whole, "ids": ids[0], "mask": mask[0]}

    def train(self, step: int) -> bool:
        self.module.train()
        for part in self.priors.values():
            part.eval()
        return False

    def loss(self, parts: Sequence[Part]) -> dict[str, Tensor]:
        _, views, labels = parts[0]
        ratings = self.module(views["crops"], views["view"], views["ids"], views["mask"])
        return {"loss": (ratings.scores.mean(dim=1) - labels).abs().mean()}

    def rate(self, image: Image.Image, row: RatedImage) -> Tensor:
        scores = MoEAGIQAScorer(self.module, self.tokenizer)([image], [row.prompt or "-"])[0]
        return torch.tensor([scores[f"moe_agiqa.{name}"] for name in self.module.config["outputs"]])

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.tokenizer.save_pretrained(folder / "tokenizer")


def random_crops(image: Image.Image, side: int, count: int, rng: random.Random) -> Tensor:
    return torch.stack([to_tensor(random_crop(image, side, rng)) for _ in range(count)])


def freeze_until(module: nn.Module, below: Sequence[str], last: str) -> None:
    """Freeze the parameters whose names begin with one of `below`, and the next layer's first tensor, `last`.

    The published code counts tensors and stops one too late; the weights that were made so depend on it.
    """
    for name, parameter in module.named_parameters():
        if name == last or name.startswith(tuple(below)):
            parameter.requires_grad_(False)


def drop_paths(encoder: Any, most: float) -> None:
    """Leave out halves of blocks for some pictures while training: BLIP's drop path, which transformers lacks."""

    def dropped(share: float, module: nn.Module, _: Any, out: Any) -> Any:
        if not module.training or share == 0:
            return out
        value = out[0] if isinstance(out, tuple) else out
        kept = torch.rand(len(value), *(1,) * (value.dim() - 1), device=value.device) >= share
        value = value * kept / (1 - share)
        return (value, *out[1:]) if isinstance(out, tuple) else value

    layers = encoder.encoder.layers
    for number, layer in enumerate(layers):
        share = most * number / max(1, len(layers) - 1)
        for half in (layer.self_attn, layer.mlp):
            half.register_forward_hook(partial(dropped, share))
