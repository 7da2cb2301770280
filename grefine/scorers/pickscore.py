"""PickScore: a CLIP tuned on which of two pictures people picked for a prompt (Kirstain et al. 2023)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from grefine.scorers.clip import TextAgreement, load_clip
from grefine.types import MetricSpec

if TYPE_CHECKING:
    from torch import Tensor

SPEC = MetricSpec(
    name="pickscore",
    range=(-100.0, 100.0),
    needs_prompt=True,
    axis="alignment",
    licence="code Apache-2.0; terms of the PickScore weights: see their model card (yuvalkirstain/PickScore_v1)",
    weights="`grefine fetch pickscore --accept-terms`, or a transformers CLIP folder: --weights pickscore=DIR",
    fetch="pickscore",
    description="logit scale times cos, about 20 for PickScore_v1; not comparable with the paper's PicS",
)


class PickScore(TextAgreement):
    """Logit scale times cos, as the authors' model card computes it."""

    spec = SPEC

    def value(self, cosine: Tensor) -> Tensor:
        """Return the logit scale times cos."""
        return self.clip.logit_scale() * cosine


def load(path: Path, device: str) -> PickScore:
    """Load it from a transformers CLIP folder."""
    return PickScore(load_clip(path, device))
