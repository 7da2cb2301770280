"""ImageReward: how much people would like the picture for its prompt (Xu et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grefine.scorers.batches import in_chunks, tokens, unbatch
from grefine.scorers.checkpoint import State, bare, only
from grefine.scorers.component import load_component, tokenizer_beside
from grefine.scorers.inputs import check_images, check_prompts
from grefine.scorers.protocol import Images, Prompts
from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from grefine.models.reward import RewardModel

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


class ImageRewardScorer:
    """Score by ImageReward: one unbounded value, `imagereward`, about 0 for an average picture."""

    spec = SPEC

    def __init__(self, model: RewardModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        import torch

        from grefine.models.reward import semantic_view

        pictures = check_images(images, "ImageReward")
        texts = check_prompts(prompts, len(pictures), "ImageReward", required=True)
        config, weight = self.model.config, next(self.model.parameters())

        def rate(rows: list[int]) -> list[Scores]:
            view = torch.cat([semantic_view(pictures[row], config["image_size"]) for row in rows]).to(weight)
            ids, mask = tokens(self.tokenizer, [texts[row] for row in rows], config["text_length"], weight.device)
            return unbatch({"imagereward": self.model(view, ids, mask)})

        return in_chunks(len(pictures), rate)


def load(path: Path, device: str) -> ImageRewardScorer:
    """Load the network and its tokenizer from a component folder."""
    from grefine.models.reward import RewardModel

    return ImageRewardScorer(load_component(RewardModel, path, device), tokenizer_beside(path))


wrap = ImageRewardScorer
"""Around a network that a pipeline holds."""


def convert(states: Mapping[Path, State], options: dict[str, Any]) -> RewardModel:
    """Read the one published file."""
    from grefine.models.reward import RewardModel

    return RewardModel.from_reference({"reward": bare(only(states, "ImageReward"))}, **options)


def assemble(target: Path) -> None:
    """Write the component of a pipeline from the fetched files."""
    from grefine.fetching import fetched, fetched_folder
    from grefine.scorers.convert import convert_weights

    file = fetched(SPEC.fetch, "ImageReward.pt")
    convert_weights(SPEC.convert, [file], target, tokenizer=fetched_folder(SPEC.fetch) / "tokenizer")
