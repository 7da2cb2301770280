"""The only file that touches pyiqa, a package under non-commercial terms that people may add themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from grefine.errors import MetricUnavailable
from grefine.scorers.inputs import check_images, to_tensor
from grefine.scorers.specs import SPECS
from grefine.types import Scores

NAMES = {
    "unique": "unique",
    "liqe": "liqe",
    "dbcnn": "dbcnn",
    "topiq": "topiq_nr",
    "cnniqa": "cnniqa",
    "musiq": "musiq",
    "qalign": "qalign",
    "hyperiqa": "hyperiqa",
    "nima": "nima",
    "paq2piq": "paq2piq",
}
"""Our names to pyiqa's; each means pyiqa's default weights."""


class PyIQAScorer:
    """Score by one of pyiqa's metrics, one image at a time, since some of them change with their batch."""

    def __init__(self, name: str, metric: Any, device: str) -> None:
        self.spec = SPECS[name]
        self.metric, self.device = metric, device

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, self.spec.name, minimum=32)
        return [
            Scores({self.spec.name: float(self.metric(to_tensor(picture)[None].to(self.device)))})
            for picture in pictures
        ]


def build(name: str, device: str) -> PyIQAScorer:
    """Build one of pyiqa's metrics.

    Raises:
        MetricUnavailable: pyiqa or one of its undeclared needs is missing, or it cannot get its weights.
    """
    try:
        import pyiqa  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MetricUnavailable(
            f"{name} needs pyiqa, which cannot be imported ({error}); `pip install grefine[iqa]` installs it together "
            "with setuptools<82 and icecream, which it needs and does not ask for."
        ) from error
    try:
        metric = pyiqa.create_metric(NAMES[name], device=torch.device(device))
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MetricUnavailable(
            f"pyiqa cannot build {name}: {first[:200]}. It needs the network once, for its weights."
        ) from error
    return PyIQAScorer(name, metric, device)
