"""MoE-AGIQA: quality of a generated picture under its prompt, by a mixture of experts over seeded crops."""

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

from grefine.errors import WeightsCorrupt, WeightsMissing
from grefine.scorers.component import load_component, tokenizer_beside
from grefine.scorers.convert import State, first_entry
from grefine.scorers.protocol import CHUNK, Images, Prompts, check_images, check_prompts, in_groups, tokens, unbatch
from grefine.types import MetricSpec, Scores

SPEC = MetricSpec(
    name="moe_agiqa",
    range=(-inf, inf),
    needs_prompt=True,
    axis="both",
    licence="code Apache-2.0; terms of the published weights unknown, none are linked by their authors",
    weights="a folder that `grefine convert moe-agiqa` makes of files that its authors do not link: "
    "--weights moe_agiqa=DIR",
    description="MoE-AGIQA (after 37s/MoE-AGIQA at 0d9feb6): mean of 15 seeded crops, trained towards 0..1",
    values={"moe_agiqa.quality": "perceptual", "moe_agiqa.alignment": "alignment"},
    component="moe_agiqa",
    words=True,
    convert="moe-agiqa",
    imports=("diffusers", "timm"),
)


class MoEAGIQAScorer:
    """Score by MoE-AGIQA: `moe_agiqa.quality` and whatever else the model rates."""

    spec = SPEC

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.values = tuple(f"moe_agiqa.{name}" for name in model.config["outputs"])

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        import torch

        from grefine.models.reward import semantic_view

        pictures = check_images(images, "MoE-AGIQA")
        texts = check_prompts(prompts, len(pictures), "MoE-AGIQA", required=True)
        config, weight = self.model.config, next(self.model.parameters())
        cut = [self.model.cut_crops(picture) for picture in pictures]

        def rate(rows: list[int]) -> list[Scores]:
            crops = torch.stack([cut[row][0] for row in rows]).to(weight)
            view = torch.cat([semantic_view(pictures[row], config["image_size"]) for row in rows]).to(weight)
            ids, mask = tokens(self.tokenizer, [texts[row] for row in rows], config["text_length"], weight.device)
            found = self.model(crops, view, ids, mask).scores
            # After the model ran, because offloading moves it only then to where it runs.
            times = torch.stack([cut[row][1] for row in rows]).to(found)[..., None]
            scores = (found * times).sum(dim=1) / times.sum(dim=1)
            return unbatch({name: scores[:, index] for index, name in enumerate(self.values)})

        counts = [len(crops) for crops, _ in cut]
        return in_groups(counts, CHUNK, rate, size=lambda count: count)


def load(path: Path, device: str) -> MoEAGIQAScorer:
    """Load the network and its tokenizer from a component folder."""
    from grefine.models.moe_agiqa import MoEAGIQA

    return MoEAGIQAScorer(load_component(MoEAGIQA, path, device), tokenizer_beside(path))


wrap = MoEAGIQAScorer


def convert(states: Mapping[Path, State], options: dict[str, Any]) -> Any:
    """Put the published files together: the training result, its ViT, and for version 2 the pre-trained prior."""
    from grefine.models.moe_agiqa import MoEAGIQA

    groups: dict[str, State] = {}
    for path, state in states.items():
        if "reward_model_state_dict" in state and "regressor_model_state_dict" in state:
            groups |= {"reward": state["reward_model_state_dict"], "regressor": state["regressor_model_state_dict"]}
        elif "vit_model_state_dict" in state:
            groups["vit_prior"] = state["vit_model_state_dict"]
        elif "cls_token" in state:
            groups["vit"] = state
        else:
            raise WeightsCorrupt(f"'{path}' holds no part of MoE-AGIQA: its first entry is '{first_entry(state)}'.")
    if "regressor" not in groups:
        raise WeightsMissing("No file holds MoE-AGIQA's training result (best.pth) with reward and regressor.")
    if "vit" not in groups:
        raise WeightsMissing(
            "MoE-AGIQA's ViT is missing: also give timm's vit_base_patch16_224.augreg_in21k_ft_in1k and no other ViT."
        )
    if "proj_prior" in groups["regressor"] and "vit_prior" not in groups:
        raise WeightsMissing("This is version 2 of MoE-AGIQA: also give the pre-training file that holds its prior.")
    if "proj_prior" not in groups["regressor"]:
        groups.pop("vit_prior", None)
    return MoEAGIQA.from_reference(groups, **options)
