"""MoE-AGIQA on rated pictures: the quality prior (a ViT on photographs), then the whole network on generated ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from grefine.errors import ConfigError
from grefine.io.images import read_image
from grefine.models.moe_agiqa import MoEAGIQA, vit
from grefine.models.reward import semantic_view
from grefine.scorers.batches import tokens
from grefine.scorers.inputs import to_tensor
from grefine.scorers.moe_agiqa import MoEAGIQAScorer
from grefine.training.datasets.rated import MOS, RatedImage, RatedImages
from grefine.training.judges.moe_ablations import Ablation, ablate
from grefine.training.judges.pool import Part, Sample
from grefine.training.judges.recipe import RatedRecipe
from grefine.training.judges.stage import begin_with, freeze, load_state, save_state
from grefine.training.judges.views import random_crop


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
    """Folder or Hub id."""
    ablation: Ablation = Ablation()


class PriorStage:
    """Pre-train the ViT of version 2 on photographs; the regressor is thrown away."""

    name, columns, grouping = "vit_prior", (MOS,), "together"

    def __init__(self, recipe: MoERecipe, sets: Sequence[RatedImages]) -> None:
        options = {"crop_size": 224, "crop_patch": 16, "crop_width": 768, "prior_depth": 12, "crop_heads": 12}
        foreign = set(recipe.geometry) - set(options)
        if foreign:
            raise ConfigError(f"The prior's geometry has no '{min(foreign)}': {', '.join(options)}.")
        options |= recipe.geometry
        self.recipe, self.options = recipe, options
        self.size, width = options["crop_size"], options["crop_width"]
        shape = (self.size, options["crop_patch"], width, options["prior_depth"], options["crop_heads"])
        self.vit: Any = vit(*shape, final_norm=True)
        begin_with(self.vit, recipe.start, "vit")
        regressor = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.module = nn.ModuleDict({"vit": self.vit, "regressor": regressor})
        depth = int(recipe.frozen_share * options["prior_depth"])
        below = ["cls_token", "pos_embed", "patch_embed.", *(f"blocks.{n}." for n in range(depth))]
        freeze_until(self.vit, below, f"blocks.{depth}.norm1.weight")

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        crops = [to_tensor(random_crop(image, self.size, rng)) for _ in range(self.recipe.crops)]
        return {"crops": torch.stack(crops)}

    def train(self, step: int) -> bool:
        self.module.train()
        return False

    def loss(self, parts: Sequence[tuple[Part, Sample, Tensor]]) -> dict[str, Tensor]:
        _, views, labels = parts[0]
        return {"loss": (self._rate(views["crops"]).mean(1) - labels[:, 0]).abs().mean()}

    def predict(self, rows: Sequence[RatedImage]) -> Tensor:
        found = []
        for row in rows:
            rng = random.Random(20)
            image = read_image(row.path).rgb
            crops = torch.stack([to_tensor(random_crop(image, self.size, rng)) for _ in range(15)])
            found.append(self._rate(crops[None].to(next(self.vit.parameters()))).mean())
        return torch.stack(found)[:, None]

    def save(self, folder: Path) -> None:
        save_state(self.vit, folder, {"part": "vit_prior"} | self.options)

    def load(self, folder: Path) -> None:
        from safetensors.torch import load_file

        load_state(self.vit, load_file(folder / "model.safetensors"), str(folder))

    def _rate(self, crops: Tensor) -> Tensor:
        token = self.vit.forward_features(crops.flatten(0, 1))[:, 0]
        return self.module["regressor"](token)[:, 0].unflatten(0, crops.shape[:2])


class MainStage:
    """Train head and upper half of the reward network; both ViTs stay as they came."""

    name, grouping = "moe_agiqa", "together"

    def __init__(self, recipe: MoERecipe, sets: Sequence[RatedImages]) -> None:
        bare = [data.name for data in sets if not all(row.prompt for row in data.rows)]
        if bare and recipe.ablation.prompt:
            raise ConfigError(
                f"'{bare[0]}' has pictures without a prompt, which MoE-AGIQA reads: add them, or train the prior."
            )
        self.recipe = recipe
        self.model = MoEAGIQA(**recipe.geometry)
        for part in ("vit", "vit_prior"):
            if getattr(self.model, part) is not None:
                begin_with(getattr(self.model, part), recipe.start, part)
        if recipe.start.get("reward"):
            _take_reward(self.model, recipe.start["reward"])
        ablate(self.model, recipe.ablation)
        outputs = self.model.config["outputs"]
        self.columns = tuple(MOS if name == "quality" else name for name in outputs)
        self.tokenizer = _tokenizer(recipe.tokenizer)
        self.module = self.model
        self._freeze()
        self._depth = _StochasticDepth(self.model.vision, recipe.drop_path)

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        config = self.model.config
        crops = [to_tensor(random_crop(image, config["crop_size"], rng)) for _ in range(self.recipe.crops)]
        ids, mask = tokens(self.tokenizer, [row.prompt or " "], config["text_length"], torch.device("cpu"))
        whole = semantic_view(image, config["image_size"])[0]
        return {"crops": torch.stack(crops), "view": whole, "ids": ids[0], "mask": mask[0]}

    def train(self, step: int) -> bool:
        self.model.train()
        self.model.vit.eval()
        if self.model.vit_prior is not None:
            self.model.vit_prior.eval()
        return False

    def loss(self, parts: Sequence[tuple[Part, Sample, Tensor]]) -> dict[str, Tensor]:
        _, views, labels = parts[0]
        ratings = self.model(views["crops"], views["view"], views["ids"], views["mask"])
        return {"loss": (ratings.scores.mean(dim=1) - labels).abs().mean()}

    def predict(self, rows: Sequence[RatedImage]) -> Tensor:
        scorer = MoEAGIQAScorer(self.model, self.tokenizer)
        found = []
        for row in rows:
            scores = scorer([read_image(row.path).rgb], [row.prompt or "-"])[0]
            found.append([scores[f"moe_agiqa.{name}"] for name in self.model.config["outputs"]])
        return torch.tensor(found)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder / "tokenizer")

    def load(self, folder: Path) -> None:
        from safetensors.torch import load_file

        state: dict[str, Tensor] = {}
        for file in folder.glob("*.safetensors"):
            state |= load_file(file)
        load_state(self.model, state, str(folder))

    def _freeze(self) -> None:
        freeze(self.model.vit)
        if self.model.vit_prior is not None:
            freeze(self.model.vit_prior)
        share = self.recipe.frozen_share
        text: Any = self.model.text
        vision: Any = self.model.vision
        depth = int(share * len(text.encoder.layer))
        below = ["embeddings.", *(f"encoder.layer.{n}." for n in range(depth))]
        freeze_until(text, below, f"encoder.layer.{depth}.attention.self.query.weight")
        depth = int(share * len(vision.encoder.layers))
        below = ["embeddings.", *(f"encoder.layers.{n}." for n in range(depth))]
        freeze_until(vision, below, f"encoder.layers.{depth}.layer_norm1.weight")


def freeze_until(module: nn.Module, below: Sequence[str], last: str) -> None:
    """Freeze the parameters whose names begin with one of `below`, and the next layer's first tensor, `last`.

    The published code counts tensors and stops one too late; the weights that were made so depend on it.
    """
    for name, parameter in module.named_parameters():
        if name == last or name.startswith(tuple(below)):
            parameter.requires_grad_(False)


class _StochasticDepth:
    """Leave out halves of blocks for some pictures while training: BLIP's drop path, which transformers lacks."""

    def __init__(self, encoder: Any, most: float) -> None:
        layers = encoder.encoder.layers
        for number, layer in enumerate(layers):
            share = most * number / max(1, len(layers) - 1)
            for half in (layer.self_attn, layer.mlp):
                half.register_forward_hook(lambda module, _, out, share=share: _dropped(module, out, share))


def _dropped(module: nn.Module, out: Any, share: float) -> Any:
    if not module.training or share == 0:
        return out
    value = out[0] if isinstance(out, tuple) else out
    kept = torch.rand(len(value), *(1,) * (value.dim() - 1), device=value.device) >= share
    value = value * kept / (1 - share)
    return (value, *out[1:]) if isinstance(out, tuple) else value


def _take_reward(model: MoEAGIQA, folder: str) -> None:
    from grefine.models.reward import RewardModel
    from grefine.scorers.component import load_component

    reward = load_component(RewardModel, Path(folder), "cpu")
    load_state(model.vision, reward.vision.state_dict(), folder)
    load_state(model.text, reward.text.state_dict(), folder)


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The tokenizer '{name}' is not on this machine and could not be fetched: name a folder that holds it."
        ) from error
