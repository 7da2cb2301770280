"""ImageReward: how much people would like the picture for its prompt (Xu et al. 2023)."""

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from PIL import Image

from grefine.scorers.component import load_component, tokenizer_beside
from grefine.scorers.convert import State, bare, only
from grefine.scorers.protocol import Columns, NetworkJudge, tokens
from grefine.types import MetricSpec

SPEC = MetricSpec(
    name="imagereward",
    range=(-inf, inf),
    needs_prompt=True,
    axis="alignment",
    licence="Apache-2.0",
    weights="`grefine fetch imagereward`, or a folder made by `grefine convert reward ImageReward.pt -o DIR`: "
    "--weights imagereward=DIR",
    description="ImageReward-v1.0, standardised so that 0 is average",
    aliases=("image_reward",),
    component="reward",
    words=True,
    convert="reward",
    fetch="imagereward",
)


class ImageRewardScorer(NetworkJudge):
    """Score by ImageReward: one unbounded value, `imagereward`, about 0 for an average picture."""

    spec = SPEC

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    def rate(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Columns:
        """Return the reward of every picture under its prompt."""
        import torch

        from grefine.models.reward import semantic_view

        config, weight = self.model.config, next(self.model.parameters())
        view = torch.cat([semantic_view(picture, config["image_size"]) for picture in pictures]).to(weight)
        ids, mask = tokens(self.tokenizer, texts, config["text_length"], weight.device)
        return {"imagereward": self.model(view, ids, mask)}


def load(path: Path, device: str) -> ImageRewardScorer:
    """Load the network and its tokenizer from a component folder."""
    from grefine.models.reward import RewardModel

    return ImageRewardScorer(load_component(RewardModel, path, device), tokenizer_beside(path))


wrap = ImageRewardScorer


def convert(states: Mapping[Path, State], options: dict[str, Any]) -> Any:
    """Read the one published file."""
    from grefine.models.reward import RewardModel

    return RewardModel.from_reference({"reward": bare(only(states, "ImageReward"))}, **options)


def assemble(target: Path) -> None:
    """Write the component of a pipeline from the fetched files."""
    from grefine.fetching import fetched, fetched_folder
    from grefine.scorers.convert import convert_weights

    file = fetched(SPEC.fetch, "ImageReward.pt")
    convert_weights(SPEC.convert, [file], target, tokenizer=fetched_folder(SPEC.fetch) / "tokenizer")
