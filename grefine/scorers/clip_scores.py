"""Metrics on a transformers CLIP: CLIPScore, PickScore and CLIPIQA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from grefine.errors import WeightsCorrupt
from grefine.scorers.inputs import check_images, check_prompts
from grefine.scorers.learned import CHUNK, in_groups, unbatch
from grefine.scorers.specs import SPECS
from grefine.types import Scores


class ClipEncoder:
    """Both halves of a CLIP as plain unit vectors, whatever this version of transformers wraps them in."""

    def __init__(self, model: Any, tokenizer: Any, processor: Any = None) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.processor = processor or _processor(model.config.vision_config.image_size)

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return `(B, D)` of unit length."""
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(self.model.device)
        vision = self.model.vision_model(pixel_values=pixels.to(self.model.dtype))
        return F.normalize(self.model.visual_projection(vision.pooler_output), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return `(B, D)` of unit length; texts over the model's length are cut before the end mark, which stays."""
        length = self.model.config.text_config.max_position_embeddings
        found = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).to(self.model.device)
        text = self.model.text_model(input_ids=found["input_ids"], attention_mask=found["attention_mask"])
        return F.normalize(self.model.text_projection(text.pooler_output), dim=-1)

    def logit_scale(self) -> Tensor:
        """Return the learned temperature as a factor."""
        return self.model.logit_scale.exp()


def _processor(side: int) -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def load_clip(folder: Path, device: str) -> tuple[ClipEncoder]:
    """Load a transformers CLIP folder: model, tokenizer and image processor.

    Raises:
        WeightsCorrupt: a folder of something else, or an incomplete one.
    """
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=None)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise WeightsCorrupt(f"'{folder}' is no complete transformers CLIP folder: {first}") from error
    return (ClipEncoder(model.to(device), tokenizer, processor),)


class CLIPScore:
    """w max(cos, 0) with w = 2.5 and the prefix of the original definition (Hessel et al. 2021)."""

    spec = SPECS["clipscore"]
    weight, prefix = 2.5, "A photo depicts "

    def __init__(self, clip: ClipEncoder) -> None:
        self.clip = clip

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, "CLIPScore")
        texts = check_prompts(prompts, len(pictures), "CLIPScore", required=True)

        def rate(rows: list[int]) -> list[Scores]:
            text = self.clip.texts([self.prefix + texts[row] for row in rows])
            cosine = (self.clip.images([pictures[row] for row in rows]) * text).sum(dim=-1)
            return unbatch({"clipscore": self.weight * cosine.clamp(min=0)})

        return in_groups([()] * len(pictures), CHUNK, rate)


class PickScore:
    """Logit scale times cos, as the authors' model card computes it."""

    spec = SPECS["pickscore"]

    def __init__(self, clip: ClipEncoder) -> None:
        self.clip = clip

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, "PickScore")
        texts = check_prompts(prompts, len(pictures), "PickScore", required=True)

        def rate(rows: list[int]) -> list[Scores]:
            text = self.clip.texts([texts[row] for row in rows])
            cosine = (self.clip.images([pictures[row] for row in rows]) * text).sum(dim=-1)
            return unbatch({"pickscore": self.clip.logit_scale() * cosine})

        return in_groups([()] * len(pictures), CHUNK, rate)


class CLIPIQA:
    """Probability of "Good photo." against "Bad photo." (Wang et al. 2023); the two texts are encoded once."""

    spec = SPECS["clipiqa"]
    pair = ("Good photo.", "Bad photo.")

    def __init__(self, clip: ClipEncoder) -> None:
        self.clip = clip
        with torch.inference_mode():
            self.anchors = clip.texts(self.pair)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, "CLIPIQA")

        def rate(rows: list[int]) -> list[Scores]:
            seen = self.clip.images([pictures[row] for row in rows])
            logits = self.clip.logit_scale() * seen @ self.anchors.to(seen).T
            return unbatch({"clipiqa": logits.softmax(dim=-1)[:, 0]})

        return in_groups([()] * len(pictures), CHUNK, rate)
