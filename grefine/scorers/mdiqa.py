"""MDIQA: nine dimensions of quality, and an overall score that weighs them by picture."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from PIL import Image

from grefine.errors import WeightsCorrupt, WeightsMissing
from grefine.scorers.component import load_component
from grefine.scorers.convert import State, first_entry, inside
from grefine.scorers.protocol import Columns, NetworkJudge, to_tensor
from grefine.types import MetricSpec

NAMES = (
    "overall", "brightness", "colorfulness", "contrast", "noisiness", "sharpness", "color", "composition", "content",
    "light",
)  # fmt: skip
SPEC = MetricSpec(
    name="mdiqa",
    range=(-inf, inf),
    licence="code Apache-2.0; published weights CC-BY-NC-SA-4.0 and S-Lab-1.0 (non-commercial)",
    weights="a folder that `grefine convert mdiqa` makes of the published files, which lie on a drive that no program "
    "can fetch from: --weights mdiqa=DIR",
    description="MDIQA (published code YaoShunyu19/MDIQA at 8b2f775): overall and nine dimensions, about 0..1",
    values={f"mdiqa.{name}": "perceptual" for name in NAMES},
    component="mdiqa",
    parts=True,
    convert="mdiqa",
    imports=("diffusers", "torchvision"),
)


GUARD_SIDE = 512
"""Largest shorter side in pixels at which the guard shows a picture: MDIQA was trained and tested on 384 to 512."""


class MDIQAScorer(NetworkJudge):
    """Score by MDIQA: `mdiqa.overall` and one value per dimension."""

    spec = SPEC

    def __init__(self, model: Any, dimensions: Iterable[str] | None = None, side: int | None = None) -> None:
        from grefine.models.mdiqa import DIMENSIONS, known_dimensions

        self.model, self.side, self.minimum = model.eval(), side, model.config["minimum"]
        self.whole = dimensions is None and model.fusion is not None
        self.dimensions = DIMENSIONS if dimensions is None else known_dimensions(dimensions)
        self.values = tuple(f"mdiqa.{name}" for name in ((*["overall"] * self.whole, *self.dimensions)))

    def key(self, picture: Image.Image) -> tuple[int, int]:
        """Return its size."""
        return picture.size

    def rate(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Columns:
        """Return the dimensions of pictures of one size, after the overall score where that is asked."""
        import torch

        weight = next(self.model.parameters())
        batch = torch.stack([to_tensor(_shrunk(picture, self.side)) for picture in pictures]).to(weight)
        out = self.model(batch) if self.whole else self.model.score(batch, self.dimensions)
        values = {f"mdiqa.{name}": out.dimensions[name] for name in self.dimensions}
        return values if out.overall is None else {"mdiqa.overall": out.overall} | values


def _shrunk(picture: Image.Image, side: int | None) -> Image.Image:
    """Bring the shorter side down to this; a smaller picture comes back as it is."""
    scale = 1.0 if side is None else side / min(picture.size)
    if scale >= 1.0:
        return picture
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)


def load(path: Path, device: str) -> MDIQAScorer:
    """Load the network from a component folder."""
    from grefine.models.mdiqa import MDIQA

    return MDIQAScorer(load_component(MDIQA, path, device))


wrap = MDIQAScorer


def guard(model: Any) -> MDIQAScorer:
    """Around that network, as the guard asks it: how a repaint is drawn, in pictures of the size that it knows."""
    from grefine.models.mdiqa import TECHNICAL

    return MDIQAScorer(model, TECHNICAL, GUARD_SIDE)


def convert(states: Mapping[Path, State], options: dict[str, Any]) -> Any:
    """Put the published files together: backbone and five heads (or one file), the aesthetic net, the fusion."""
    from grefine.models.mdiqa import AESTHETIC, MDIQA, TECHNICAL

    groups: dict[str, State] = {}
    parts: State = {}
    for path, state in states.items():
        state = inside(state, "params")
        heads = {int(m[1]) for key in state if (m := re.match(r"cfanet_heads\.(\d+)\.", key))}
        if any(key.startswith("local_score_module.") for key in state):
            groups["fusion"] = state
        elif heads == set(range(len(AESTHETIC))):
            groups["aesthetic"] = state
        elif heads == set(range(len(TECHNICAL))):
            groups["technology"] = state
        elif "h_emb" in state:
            number = re.search(r"head(\d+)$", path.stem)
            if number is None:
                raise WeightsCorrupt(f"'{path}' is a head of MDIQA: its name must end in head0 ... head4.")
            parts |= {f"cfanet_heads.{int(number[1])}.{key}": value for key, value in state.items()}
        elif any(key.startswith("weight_pool.") for key in state):
            parts |= {f"cfanet_backbone.{key}": value for key, value in state.items()}
        else:
            raise WeightsCorrupt(f"'{path}' holds no part of MDIQA: its first entry is '{first_entry(state)}'.")
    if parts:
        groups.setdefault("technology", parts)
    for name in ("technology", "aesthetic"):
        if name not in groups:
            raise WeightsMissing(
                f"No file holds MDIQA's '{name}' net: give net_freeze_backbone.pth and its five heads, and the "
                "aesthetic net_best_PARA_val_color.pth; the fusion file is needed for the overall score alone."
            )
    return MDIQA.from_reference(groups, **options)
