"""CLIPScore: how well a CLIP thinks that the picture fits its prompt (Hessel et al. 2021)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from grefine.scorers.clip import TextAgreement, load_clip
from grefine.types import MetricSpec

if TYPE_CHECKING:
    from torch import Tensor

SPEC = MetricSpec(
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


class CLIPScore(TextAgreement):
    """w max(cos, 0) with w = 2.5 and the prefix of the original definition."""

    spec = SPEC
    weight, prefix = 2.5, "A photo depicts "

    def value(self, cosine: Tensor) -> Tensor:
        """Return w max(cos, 0)."""
        return self.weight * cosine.clamp(min=0)


def load(path: Path, device: str) -> CLIPScore:
    """Load it from a transformers CLIP folder."""
    return CLIPScore(load_clip(path, device))
