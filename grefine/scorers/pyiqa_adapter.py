"""The only file that touches pyiqa, a package under non-commercial terms that people may add themselves."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from grefine.errors import MetricUnavailable
from grefine.scorers.inputs import check_images, to_tensor
from grefine.scorers.protocol import Images, Prompts
from grefine.types import MetricSpec, Scores

TABLE: dict[str, tuple[float, float, str]] = {
    "unique": (-3.0, 3.0, "UNIQUE, mixed databases"),
    "liqe": (1.0, 5.0, "LIQE, KonIQ"),
    "dbcnn": (0.0, 1.0, "DBCNN, KonIQ"),
    "topiq": (0.0, 1.0, "TOPIQ without reference, KonIQ (pyiqa: topiq_nr)"),
    "cnniqa": (0.0, 1.0, "CNNIQA, KonIQ"),
    "musiq": (0.0, 100.0, "MUSIQ, KonIQ"),
    "qalign": (1.0, 5.0, "Q-Align, a 7 B language model; wants a GPU"),
    "hyperiqa": (0.0, 1.0, "HyperIQA, mean of random crops"),
    "nima": (0.0, 10.0, "NIMA, aesthetics on AVA"),
    "paq2piq": (0.0, 100.0, "PaQ-2-PiQ"),
}
"""Lowest and highest value as pyiqa states them, and what it is; each means pyiqa's default weights."""
OTHER_NAMES = {"topiq": "topiq_nr", "qalign": "q_align"}
"""What people call them beside our names."""


class PyIQAScorer:
    """Score by one of pyiqa's metrics, one image at a time, since some of them change with their batch."""

    def __init__(self, spec: MetricSpec, metric: Any, device: str) -> None:
        self.spec, self.metric, self.device = spec, metric, device

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        import torch

        pictures = check_images(images, self.spec.name, minimum=32)
        with torch.inference_mode():
            values = [float(self.metric(to_tensor(picture)[None].to(self.device))) for picture in pictures]
        return [Scores({self.spec.name: value}) for value in values]


def _spec(name: str) -> MetricSpec:
    low, high, about = TABLE[name]
    return MetricSpec(
        name=name,
        range=(low, high),
        licence="PolyForm-Noncommercial-1.0.0 and S-Lab-1.0 (pyiqa), weights under their authors' terms",
        weights="`pip install grefine[iqa]`; pyiqa downloads the weights at first use (--allow-noncommercial)",
        description=f"{about}; range as pyiqa states",
        aliases=(OTHER_NAMES[name],) if name in OTHER_NAMES else (),
        package="pyiqa",
        noncommercial=True,
    )


def load(spec: MetricSpec, path: Path | None, device: str) -> PyIQAScorer:
    """Build one of pyiqa's metrics."""
    import torch

    try:
        import pyiqa  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MetricUnavailable(
            f"{spec.name} needs pyiqa, which cannot be imported ({error}); `pip install grefine[iqa]` installs it "
            "together with setuptools<82 and icecream, which it needs and does not ask for."
        ) from error
    try:
        # The one metric whose name in pyiqa is another than ours.
        name = "topiq_nr" if spec.name == "topiq" else spec.name
        return PyIQAScorer(spec, pyiqa.create_metric(name, device=torch.device(device)), device)
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MetricUnavailable(
            f"pyiqa cannot build {spec.name}: {first[:200]}. It needs the network once, for its weights."
        ) from error


JUDGES = tuple(SimpleNamespace(SPEC=spec, load=partial(load, spec)) for spec in map(_spec, TABLE))
