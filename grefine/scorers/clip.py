"""A transformers CLIP, on which several judges stand; CLIPScore and PickScore, two of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from PIL import Image

from grefine.errors import WeightsCorrupt, in_words
from grefine.scorers.protocol import NetworkJudge
from grefine.types import MetricSpec

if TYPE_CHECKING:
    from torch import Tensor

CLIPSCORE = MetricSpec(
    name="clipscore",
    range=(0.0, 2.5),
    needs_prompt=True,
    axis="alignment",
    licence="code Apache-2.0; OpenAI CLIP weights MIT",
    weights="`grefine fetch clipscore`, or a transformers CLIP folder: --weights clipscore=DIR",
    fetch="clipscore",
    description="2.5 max(cos, 0) of image and 'A photo depicts ' + prompt; not comparable with the paper's CLIPS",
    aliases=("clip_score",),
)
PICKSCORE = MetricSpec(
    name="pickscore",
    range=(-100.0, 100.0),
    needs_prompt=True,
    axis="alignment",
    licence="code Apache-2.0; terms of the PickScore weights: see their model card (yuvalkirstain/PickScore_v1)",
    weights="`grefine fetch pickscore --accept-terms`, or a transformers CLIP folder: --weights pickscore=DIR",
    fetch="pickscore",
    description="logit scale times cos, about 20 for PickScore_v1; not comparable with the paper's PicS",
)


class ClipEncoder:
    """Both halves of a CLIP as plain unit vectors, whatever this version of transformers wraps them in."""

    def __init__(self, model: Any, tokenizer: Any, processor: Any = None) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        if processor is None:
            from transformers import CLIPImageProcessor

            side = model.config.vision_config.image_size
            processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        self.processor = processor

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


class TextAgreement(NetworkJudge):
    """A judge by the cosine of image and prompt, with `prefix` before it, which `value` turns into the score."""

    def __init__(
        self, spec: MetricSpec, clip: ClipEncoder, value: Callable[[Tensor], Tensor], prefix: str = ""
    ) -> None:
        self.spec, self.clip, self.value, self.prefix = spec, clip, value, prefix

    def rate(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the score of every picture and its prompt."""
        text = self.clip.texts([self.prefix + one for one in texts])
        return {self.spec.name: self.value((self.clip.images(pictures) * text).sum(dim=-1))}


def clipscore(clip: ClipEncoder) -> TextAgreement:
    """Return CLIPScore: w max(cos, 0) with w = 2.5 and the prefix of the original definition (Hessel et al. 2021)."""
    return TextAgreement(CLIPSCORE, clip, lambda cosine: 2.5 * cosine.clamp(min=0), "A photo depicts ")


def pickscore(clip: ClipEncoder) -> TextAgreement:
    """Return PickScore: logit scale times cos, as the authors' model card computes it (Kirstain et al. 2023)."""
    return TextAgreement(PICKSCORE, clip, lambda cosine: clip.logit_scale() * cosine)


def load_clip(folder: Path, device: str) -> ClipEncoder:
    """Load a transformers CLIP folder: model, tokenizer and image processor."""
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=None)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsCorrupt(f"'{folder}' is no complete transformers CLIP folder: {in_words(error)}") from error
    return ClipEncoder(model.to(device), tokenizer, processor)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def _file(spec: MetricSpec, judge: Callable[[ClipEncoder], TextAgreement]) -> SimpleNamespace:
    return SimpleNamespace(SPEC=spec, load=lambda path, device: judge(load_clip(path, device)))


JUDGES = (_file(CLIPSCORE, clipscore), _file(PICKSCORE, pickscore))
