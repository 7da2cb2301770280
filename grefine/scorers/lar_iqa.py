"""LAR-IQA: a light judge of photographs, by the whole picture and its middle at full scale."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from PIL import Image

from grefine.errors import ConfigError
from grefine.scorers.component import load_component
from grefine.scorers.convert import State, bare, only
from grefine.scorers.protocol import CHUNK, Columns, NetworkJudge
from grefine.types import MetricSpec

SPEC = MetricSpec(
    name="lar_iqa",
    range=(-inf, inf),
    licence="code Apache-2.0; published weights MIT according to their readme",
    weights="a folder that `grefine convert lar-iqa` makes of the published file, which lies on a drive that no "
    "program can fetch from: --weights lar_iqa=DIR",
    description="LAR-IQA (published code nasimjamshidi/LAR-IQA at 792f2f1), trained on photographs, about 0..1",
    component="lar_iqa",
    parts=True,
    convert="lar-iqa",
    imports=("diffusers", "timm"),
)


class LARIQAScorer(NetworkJudge):
    """Score by LAR-IQA: one unbounded value, `lar_iqa`."""

    spec = SPEC

    def __init__(self, model: Any, color_space: str | None = None, crop_size: int | None = None) -> None:
        self.model = model.eval()
        self.color_space, self.crop_size = color_space, crop_size
        # A 1280-pixel crop is as much as a whole batch of small pictures.
        self.chunk = min(CHUNK, max(1, CHUNK * 256**2 // (crop_size or model.config["crop_size"]) ** 2))

    def rate(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Columns:
        """Return the score of every picture."""
        import torch

        weight = next(self.model.parameters())
        views = [self.model.views(picture, self.color_space, self.crop_size) for picture in pictures]
        return {"lar_iqa": self.model(*(torch.cat(parts).to(weight) for parts in zip(*views, strict=True)))}


def load(path: Path, device: str) -> LARIQAScorer:
    """Load the network from a component folder, or one branch alone from what `train lar-iqa` wrote of it."""
    from grefine.models.lar_iqa import LARIQA, LARBranch

    if (path / "part.json").is_file():
        return LARIQAScorer(LARBranch.load(path).to(device))
    return LARIQAScorer(load_component(LARIQA, path, device))


wrap = LARIQAScorer


def shown_as(judge: Any, space: str | None, crop: int | None) -> Any:
    """Return LAR-IQA as it judges pictures that are shown to it in another colour space, or with a middle as large."""
    from grefine.models.lar_iqa import COLOR_SPACES

    if judge.spec.name != SPEC.name or space not in (None, *COLOR_SPACES) or (crop is not None and crop < 32):
        raise ConfigError(
            f"A colour space is one of {', '.join(COLOR_SPACES)}, a crop at least 32, and both are for lar_iqa alone, "
            f"not '{space or crop}' for '{judge.spec.name}'."
        )
    load = lambda: LARIQAScorer(judge.load().model, space, crop)  # type: ignore[attr-defined] # noqa: E731
    return replace(judge, load=load, weights=None, origin=f"{judge.source} as {space} {crop}")


def convert(states: Mapping[Path, State], options: dict[str, Any]) -> Any:
    """Read the one published file."""
    from grefine.models.lar_iqa import LARIQA

    return LARIQA.from_reference({"model": bare(only(states, "LAR-IQA"))}, **options)
