"""HPSv2: cosine of image and prompt under open_clip's ViT-H-14, tuned on human preferences (Wu et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from grefine.errors import WeightsCorrupt
from grefine.scorers.convert import bare, read_state
from grefine.scorers.protocol import NetworkJudge, to_tensor
from grefine.types import MetricSpec

if TYPE_CHECKING:
    from torch import Tensor

SPEC = MetricSpec(
    name="hpsv2",
    range=(-1.0, 1.0),
    needs_prompt=True,
    axis="alignment",
    licence="Apache-2.0",
    weights="`grefine fetch hpsv2`, or that checkpoint of open_clip's ViT-H-14: --weights hpsv2=FILE",
    fetch="hpsv2",
    description="cosine of image and prompt under the preference-tuned CLIP-H",
    version="2",
    imports=("open_clip",),
)
"""Version 2 sees the whole picture, as published; version 1 cut its middle out."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class HPSv2(NetworkJudge):
    """Score by HPSv2."""

    spec = SPEC

    def __init__(self, model: Any, tokenizer: Callable[..., Any]) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        size = model.visual.image_size
        self.side = size if isinstance(size, int) else size[0]

    def rate(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the cosine of every picture and its prompt."""
        import torch

        weight = next(self.model.parameters())
        pixels = torch.stack([view(picture, self.side) for picture in pictures]).to(weight)
        ids = self.tokenizer(list(texts)).to(weight.device)
        image, text = self.model.encode_image(pixels), self.model.encode_text(ids)
        return {"hpsv2": torch.cosine_similarity(image, text, dim=-1)}


def view(image: Image.Image, side: int) -> Tensor:
    """Return `(3, side, side)` as published: the longer side resized (bicubic), black around it, standardised."""
    import torch

    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    square = Image.new("RGB", (side, side))
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    square.paste(small, ((side - width) // 2, (side - height) // 2))
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (to_tensor(square) - mean) / std


def load(path: Path, device: str, architecture: str = "ViT-H-14") -> HPSv2:
    """Load the published checkpoint (`HPS_v2_compressed.pt` or `HPS_v2.1_compressed.pt`) or its safetensors form."""
    import open_clip

    state = bare(read_state(path))
    model = open_clip.create_model(architecture, pretrained=None, device="cpu")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsCorrupt(f"'{path}' does not hold the weights of {architecture}: {str(error)[:160]}") from error
    return HPSv2(model.to(device), open_clip.get_tokenizer(architecture))
