"""CLIPIQA: a CLIP asked whether the picture is a good photo or a bad one (Wang et al. 2023)."""

from pathlib import Path
from typing import Any

from grefine.scorers.batches import in_chunks, unbatch
from grefine.scorers.clip import ClipEncoder, load_clip
from grefine.scorers.inputs import check_images
from grefine.scorers.protocol import Images, Prompts
from grefine.types import MetricSpec, Scores

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


class CLIPIQA:
    """Probability of "Good photo." against "Bad photo."; the two texts are encoded once."""

    spec = SPEC
    pair = ("Good photo.", "Bad photo.")

    def __init__(self, clip: ClipEncoder) -> None:
        import torch

        self.clip = clip
        with torch.inference_mode():
            self.anchors = clip.texts(self.pair)

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        pictures = check_images(images, "CLIPIQA")

        def rate(rows: list[int]) -> list[Scores]:
            seen = self.clip.images([pictures[row] for row in rows])
            logits = self.clip.logit_scale() * seen @ self.anchors.to(seen).T
            return unbatch({"clipiqa": logits.softmax(dim=-1)[:, 0]})

        return in_chunks(len(pictures), rate)


def load(path: Path, device: str) -> CLIPIQA:
    """Load it from a transformers CLIP folder."""
    return CLIPIQA(load_clip(path, device))


def wrap(model: Any, tokenizer: Any) -> CLIPIQA:
    """Build it around a CLIP that a pipeline holds."""
    return CLIPIQA(ClipEncoder(model, tokenizer))
