"""CLIPScore: how well a CLIP thinks that the picture fits its prompt (Hessel et al. 2021)."""

from pathlib import Path

from grefine.scorers.batches import in_chunks, unbatch
from grefine.scorers.clip import ClipEncoder, load_clip
from grefine.scorers.inputs import check_images, check_prompts
from grefine.scorers.protocol import Images, Prompts
from grefine.types import MetricSpec, Scores

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


class CLIPScore:
    """w max(cos, 0) with w = 2.5 and the prefix of the original definition."""

    spec = SPEC
    weight, prefix = 2.5, "A photo depicts "

    def __init__(self, clip: ClipEncoder) -> None:
        self.clip = clip

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        pictures = check_images(images, "CLIPScore")
        texts = check_prompts(prompts, len(pictures), "CLIPScore", required=True)

        def rate(rows: list[int]) -> list[Scores]:
            text = self.clip.texts([self.prefix + texts[row] for row in rows])
            cosine = (self.clip.images([pictures[row] for row in rows]) * text).sum(dim=-1)
            return unbatch({"clipscore": self.weight * cosine.clamp(min=0)})

        return in_chunks(len(pictures), rate)


def load(path: Path, device: str) -> CLIPScore:
    """Load it from a transformers CLIP folder."""
    return CLIPScore(load_clip(path, device))
