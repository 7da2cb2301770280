"""PickScore: a CLIP tuned on which of two pictures people picked for a prompt (Kirstain et al. 2023)."""

from pathlib import Path

from grefine.scorers.batches import in_chunks, unbatch
from grefine.scorers.clip import ClipEncoder, load_clip
from grefine.scorers.inputs import check_images, check_prompts
from grefine.scorers.protocol import Images, Prompts
from grefine.types import MetricSpec, Scores

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


class PickScore:
    """Logit scale times cos, as the authors' model card computes it."""

    spec = SPEC

    def __init__(self, clip: ClipEncoder) -> None:
        self.clip = clip

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        pictures = check_images(images, "PickScore")
        texts = check_prompts(prompts, len(pictures), "PickScore", required=True)

        def rate(rows: list[int]) -> list[Scores]:
            text = self.clip.texts([texts[row] for row in rows])
            cosine = (self.clip.images([pictures[row] for row in rows]) * text).sum(dim=-1)
            return unbatch({"pickscore": self.clip.logit_scale() * cosine})

        return in_chunks(len(pictures), rate)


def load(path: Path, device: str) -> PickScore:
    """Load it from a transformers CLIP folder."""
    return PickScore(load_clip(path, device))
