"""The only file that touches pyiqa, a package under non-commercial terms that people may add themselves."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

from PIL import Image

from grefine.errors import MetricUnavailable, in_words
from grefine.scorers.protocol import Formula, to_tensor
from grefine.types import MetricSpec

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


def load(spec: MetricSpec, path: Path | None, device: str) -> Formula:
    """Build one of pyiqa's metrics, which sees one image at a time, since some of them change with their batch."""
    import torch

    try:
        import pyiqa  # pyright: ignore[reportMissingImports]

        # The one metric whose name in pyiqa is another than ours.
        name = "topiq_nr" if spec.name == "topiq" else spec.name
        metric = pyiqa.create_metric(name, device=torch.device(device))
    except Exception as error:
        raise MetricUnavailable(
            f"pyiqa cannot build {spec.name} ({in_words(error)[:200]}): `pip install grefine[iqa]`, a network once."
        ) from error

    def score(picture: Image.Image) -> float:
        with torch.inference_mode():
            return float(metric(to_tensor(picture)[None].to(device)))

    return Formula(spec, score, minimum=32)


JUDGES = tuple(SimpleNamespace(SPEC=spec, load=partial(load, spec)) for spec in map(_spec, TABLE))
