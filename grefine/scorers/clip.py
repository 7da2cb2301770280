"""A transformers CLIP, on which several judges stand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grefine.errors import WeightsCorrupt
from grefine.scorers.batches import in_chunks, unbatch
from grefine.scorers.inputs import check_images, check_prompts
from grefine.scorers.protocol import Images, Prompts
from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


class ClipEncoder:
    """Both halves of a CLIP as plain unit vectors, whatever this version of transformers wraps them in."""

    def __init__(self, model: Any, tokenizer: Any, processor: Any = None) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.processor = processor or _processor(model.config.vision_config.image_size)

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return `(B, D)` of unit length."""
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(self.model.device)
        vision = self.model.vision_model(pixel_values=pixels.to(self.model.dtype))
        return _unit(self.model.visual_projection(vision.pooler_output))

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return `(B, D)` of unit length; texts over the model's length are cut before the end mark, which stays."""
        length = self.model.config.text_config.max_position_embeddings
        found = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).to(self.model.device)
        text = self.model.text_model(input_ids=found["input_ids"], attention_mask=found["attention_mask"])
        return _unit(self.model.text_projection(text.pooler_output))

    def logit_scale(self) -> Tensor:
        """Return the learned temperature as a factor."""
        return self.model.logit_scale.exp()


class TextAgreement:
    """A judge by the cosine of image and prompt under a CLIP; `value` turns it into the score."""

    spec: MetricSpec
    prefix = ""

    def __init__(self, clip: ClipEncoder) -> None:
        self.clip = clip

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        pictures = check_images(images, self.spec.name)
        texts = check_prompts(prompts, len(pictures), self.spec.name, required=True)

        def rate(rows: list[int]) -> list[Scores]:
            text = self.clip.texts([self.prefix + texts[row] for row in rows])
            cosine = (self.clip.images([pictures[row] for row in rows]) * text).sum(dim=-1)
            return unbatch({self.spec.name: self.value(cosine)})

        return in_chunks(len(pictures), rate)

    def value(self, cosine: Tensor) -> Tensor:
        """Return the scores of cosines."""
        raise NotImplementedError


def load_clip(folder: Path, device: str) -> ClipEncoder:
    """Load a transformers CLIP folder: model, tokenizer and image processor."""
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=None)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise WeightsCorrupt(f"'{folder}' is no complete transformers CLIP folder: {first}") from error
    return ClipEncoder(model.to(device), tokenizer, processor)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def _processor(side: int) -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
