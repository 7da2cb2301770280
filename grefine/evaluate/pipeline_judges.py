"""p and a of every image by a pipeline's own maps: they sort the inputs and, having made the masks, prove nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from grefine.resources import pipeline_folder
from grefine.scorers.resolve import Judge, fingerprint_of
from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    from PIL import Image

    from grefine.indicators.load import Maps

PQ = MetricSpec(
    "pq_map", used_in_loop=True, axis="perceptual", description="p of the pipeline's PQ map, which makes the masks"
)
AQ = MetricSpec(
    "aq_map",
    needs_prompt=True,
    used_in_loop=True,
    axis="alignment",
    description="a of the pipeline's AQ map, which makes the masks",
)


class PerceptualScore:
    """p of whole images."""

    spec = PQ

    def __init__(self, maps: Maps) -> None:
        self.maps = maps

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        return [Scores({PQ.name: float(found.score)}) for found in self.maps.pq(list(images))]


class AlignmentScore:
    """a of whole images; NaN for a prompt that names nothing to judge."""

    spec = AQ

    def __init__(self, maps: Maps) -> None:
        self.maps = maps

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        found = self.maps.aq(list(images), list(prompts or []))
        return [Scores({AQ.name: math.nan if entry.score is None else float(entry.score)}) for entry in found]


def input_quality(pipeline: str | Path, device: str) -> list[Judge]:
    """Return the judges for p and a; both share one CLIP, loaded when first needed."""
    folder = pipeline_folder(pipeline)
    parts = [] if folder is None else [folder / name for name in ("clip", "pq_prompts", "model_index.json")]
    source = "".join(fingerprint_of(part) for part in parts if part.exists()) or str(pipeline)

    @cache
    def maps() -> Maps:
        from grefine.indicators.load import load_maps

        return load_maps(pipeline, device=device)

    return [
        Judge(PQ, lambda: PerceptualScore(maps()), origin=source, device=device),
        Judge(AQ, lambda: AlignmentScore(maps()), origin=source, device=device),
    ]
