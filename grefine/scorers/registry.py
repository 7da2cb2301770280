"""The one place that knows which metric is which: find it, say whether it can run here, build it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, MetricUnavailable, WeightsMissing, nearest
from grefine.resources import cache_folder, pipeline_folder
from grefine.scorers.protocol import Scorer
from grefine.scorers.specs import PAPER, SPECS
from grefine.types import MetricSpec


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a metric can run on this machine."""

    runs: bool
    reason: str = ""
    """Why not, in one sentence."""
    how: str = ""
    """What would make it run."""


@dataclass(frozen=True, slots=True)
class _Entry:
    build: Callable[..., Scorer]
    kind: str
    """"component": a folder with config.json; "clip": a transformers folder; "file": any path; "none"; "pyiqa"."""


def metric_specs(only: str | None = None) -> list[MetricSpec]:
    """Return what is known of every metric; `only` may be "paper" for its thirteen."""
    if only not in (None, "paper"):
        raise ConfigError(f"Metrics can be listed as 'paper' or all, not '{only}'.")
    return [SPECS[name] for name in (PAPER if only else SPECS)]


def known_metric(name: str) -> str:
    """Return a metric's own name for any spelling of case and hyphens.

    Raises:
        ConfigError: no such metric; the nearest name is given.
    """
    plain = name.strip().lower().replace("-", "_")
    plain = {"topiq_nr": "topiq", "q_align": "qalign", "clip_score": "clipscore", "image_reward": "imagereward"}.get(
        plain, plain
    )
    if plain not in SPECS:
        raise ConfigError(f"No metric '{name}'; `grefine metrics` lists them{nearest(plain, SPECS)}")
    return plain


def availability(name: str, weights: str | Path | None = None) -> Availability:
    """Say whether `name` can run here, with the given weights or with those that are on this machine."""
    name = known_metric(name)
    entry = _entry(name)
    if entry.kind == "none":
        return Availability(True)
    if entry.kind == "pyiqa":
        if find_spec("pyiqa") is None:
            return Availability(False, f"{name} needs the package pyiqa, which is not installed.", SPECS[name].weights)
        return Availability(True, "pyiqa downloads its weights at first use and is for non-commercial use only.")
    try:
        find_weights(name, weights)
    except WeightsMissing as error:
        return Availability(False, str(error), SPECS[name].weights)
    return Availability(True)


def load_scorer(
    name: str,
    weights: str | Path | None = None,
    device: str = "cpu",
    allow_noncommercial: bool = False,
    force: bool = False,
) -> Scorer:
    """Build a scorer: `load_scorer("mdiqa", "tiny")(images)`.

    Args:
        name: of a metric; `metric_specs` lists them.
        weights: a folder or file, or the name of a bundled pipeline that carries the network; by default what lies in
            the cache under the metric's name.
        device: on which it runs; never chosen silently.
        allow_noncommercial: accept the terms of pyiqa's metrics.
        force: score pictures of a world that the weights do not know; else the scorer refuses them.

    Raises:
        ConfigError: unknown metric or device.
        WeightsMissing: nothing to load, with what gets it.
        WeightsCorrupt: weights that are something else.
        MetricUnavailable: a package or a consent is missing.
    """
    name = known_metric(name)
    check_device(device)
    entry = _entry(name)
    if entry.kind == "none":
        return entry.build(device)
    if entry.kind == "pyiqa":
        if not allow_noncommercial:
            raise MetricUnavailable(
                f"{name} runs through pyiqa, whose terms are non-commercial ({SPECS[name].licence}); "
                "pass --allow-noncommercial (allow_noncommercial=True) if yours is such a use."
            )
        return entry.build(name, device)
    from grefine.indicators.domain_check import domain_at
    from grefine.scorers.learned import DomainScorer

    found = find_weights(name, weights)
    scorer, domain = entry.build(found, device), domain_at(found)
    return scorer if domain is None else DomainScorer(scorer, domain, force)


def find_weights(name: str, weights: str | Path | None) -> Path:
    """Return where the weights of a metric lie.

    Raises:
        WeightsMissing: nowhere, with what gets them.
    """
    if weights is not None:
        folder = pipeline_folder(weights)
        if folder is not None and (folder / "model_index.json").is_file():
            inside = carried(folder, name)
            if inside is not None:
                return inside
            raise WeightsMissing(f"The pipeline '{weights}' carries no {name}; it needs {SPECS[name].weights}.")
        path = Path(weights)
        if path.exists():
            return path
        raise WeightsMissing(f"There is nothing at '{weights}'; {name} needs {SPECS[name].weights}.")
    cached = cache_folder() / name
    if cached.exists():
        return cached
    raise WeightsMissing(f"{name} needs {SPECS[name].weights}; nothing was given and '{cached}' does not exist.")


def trained(name: str) -> bool:
    """Say whether a metric is a network with weights that lie on this machine."""
    return _entry(name).kind not in ("none", "pyiqa")


def carried(pipeline: Path, name: str) -> Path | None:
    """Return where a pipeline folder keeps the network of a metric; None when it carries none."""
    inside = pipeline / {"imagereward": "reward"}.get(name, name)
    return inside if inside.is_dir() else None


def check_device(device: str) -> None:
    """Raise ConfigError for a device that this machine does not have."""
    import torch

    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError as error:
        raise ConfigError(f"'{device}' is no device; accepted are cpu, cuda, cuda:0 ... and mps.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"Device '{device}' was asked for, but this machine has no usable GPU; use cpu.")
    if kind == "cuda" and index >= torch.cuda.device_count():
        raise ConfigError(f"Device '{device}' was asked for, but this machine has {torch.cuda.device_count()} GPUs.")


def _entry(name: str) -> _Entry:
    from grefine.scorers import builders, pyiqa_adapter

    table: dict[str, tuple[Any, str]] = {
        "moe_agiqa": (builders.moe_agiqa, "component"),
        "mdiqa": (builders.mdiqa, "component"),
        "lar_iqa": (builders.lar_iqa, "component"),
        "imagereward": (builders.imagereward, "component"),
        "clipscore": (builders.clipscore, "clip"),
        "pickscore": (builders.pickscore, "clip"),
        "clipiqa": (builders.clipiqa, "clip"),
        "hpsv2": (builders.hpsv2, "file"),
        "brisque": (builders.brisque, "file"),
        "piqe": (builders.piqe, "none"),
    }
    build, kind = table.get(name, (pyiqa_adapter.build, "pyiqa"))
    return _Entry(build, kind)
