"""HPSv2: cosine of image and prompt under open_clip's ViT-H-14, tuned on human preferences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from grefine.errors import WeightsCorrupt
from grefine.scorers.inputs import check_images, check_prompts
from grefine.scorers.learned import CHUNK, in_groups, unbatch
from grefine.scorers.specs import SPECS
from grefine.types import Scores


class HPSv2:
    """Score by HPSv2.

    Args:
        model: an open_clip CLIP.
        transform: from a PIL image to its `(3, S, S)` input.
        tokenizer: from texts to ids; it keeps the end mark when it cuts.
    """

    spec = SPECS["hpsv2"]

    def __init__(self, model: Any, transform: Callable[..., Any], tokenizer: Callable[..., Any]) -> None:
        self.model, self.transform, self.tokenizer = model.eval(), transform, tokenizer

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, "HPSv2")
        texts = check_prompts(prompts, len(pictures), "HPSv2", required=True)
        weight = next(self.model.parameters())

        def rate(rows: list[int]) -> list[Scores]:
            pixels = torch.stack([self.transform(pictures[row]) for row in rows]).to(weight)
            ids = self.tokenizer([texts[row] for row in rows]).to(weight.device)
            image = F.normalize(self.model.encode_image(pixels), dim=-1)
            text = F.normalize(self.model.encode_text(ids), dim=-1)
            return unbatch({"hpsv2": (image * text).sum(dim=-1)})

        return in_groups([()] * len(pictures), CHUNK, rate)


def load_hps(path: Path, device: str, architecture: str = "ViT-H-14") -> tuple[Any, Any, Any]:
    """Load the published checkpoint (`HPS_v2_compressed.pt` or `HPS_v2.1_compressed.pt`) or its safetensors form.

    Raises:
        WeightsCorrupt: a file of something else, or a pickle that wants more than tensors.
    """
    import open_clip

    from grefine.scorers.checkpoint import read_state

    state = read_state(path)
    state = state.get("state_dict", state)
    model = open_clip.create_model(architecture, pretrained=None, device="cpu")
    try:
        model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    except RuntimeError as error:
        raise WeightsCorrupt(f"'{path}' does not hold the weights of {architecture}: {str(error)[:160]}") from error
    transform = open_clip.image_transform(model.visual.image_size, is_train=False)
    return model.to(device), transform, open_clip.get_tokenizer(architecture)
