"""CLIPIQA: a CLIP asked whether the picture is a good photo or a bad one (Wang et al. 2023)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from grefine.scorers.clip import ClipEncoder, load_clip
from grefine.scorers.protocol import Columns, NetworkJudge
from grefine.types import MetricSpec

SPEC = MetricSpec(
    name="clipiqa",
    range=(0.0, 1.0),
    licence="code Apache-2.0; CLIP weights MIT (LAION's or OpenAI's)",
    weights="`grefine fetch clip-b32`, or a transformers CLIP folder: --weights clipiqa=DIR",
    description="probability of 'Good photo.' against 'Bad photo.'; one prompt pair, so other values than pyiqa's",
    component="clipiqa",
    parts=True,
    words=True,
    fetch="clip-b32",
)


class CLIPIQA(NetworkJudge):
    """Probability of "Good photo." against "Bad photo."; the two texts are encoded once."""

    spec = SPEC
    pair = ("Good photo.", "Bad photo.")

    def __init__(self, clip: ClipEncoder) -> None:
        import torch

        self.clip = clip
        with torch.inference_mode():
            self.anchors = clip.texts(self.pair)

    def rate(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Columns:
        """Return how likely every picture is a good photo."""
        seen = self.clip.images(pictures)
        logits = self.clip.logit_scale() * seen @ self.anchors.to(seen).T
        return {"clipiqa": logits.softmax(dim=-1)[:, 0]}


def load(path: Path, device: str) -> CLIPIQA:
    """Load it from a transformers CLIP folder."""
    return CLIPIQA(load_clip(path, device))


def wrap(model: Any, tokenizer: Any) -> CLIPIQA:
    """Build it around a CLIP that a pipeline holds."""
    return CLIPIQA(ClipEncoder(model, tokenizer))
