"""From what a person asks for, to scorers ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError
from grefine.resources import pipeline_folder, pipeline_names
from grefine.scorers.protocol import Scorer
from grefine.scorers.registry import carried, known_metric, load_scorer


def load_scorers(
    metrics: str | Sequence[str],
    weights: Sequence[str] = (),
    pipeline: str | None = None,
    device: str = "cpu",
    allow_noncommercial: bool = False,
    force: bool = False,
) -> tuple[dict[str, Scorer], dict[str, Any]]:
    """Return scorers by name, and what their values depend on beside the image.

    Args:
        metrics: names, or one text with commas.
        weights: entries METRIC=PATH.
        pipeline: the name or folder of a pipeline whose judges are used where no weights are given.
        force: score pictures of a world that the weights do not know.

    Raises:
        ConfigError: nothing asked for, an unknown metric or pipeline, or an entry of another form.
        WeightsMissing, WeightsCorrupt, MetricUnavailable: a metric that cannot run.
    """
    asked = metrics.split(",") if isinstance(metrics, str) else list(metrics)
    names = list(dict.fromkeys(known_metric(name) for name in asked if name.strip()))
    if not names:
        raise ConfigError("No metric was asked for; `grefine metrics` lists them.")
    given: dict[str, str] = {}
    for entry in weights:
        name, sign, path = entry.partition("=")
        if not (sign and path):
            raise ConfigError(f"--weights takes METRIC=PATH, not '{entry}'.")
        given[known_metric(name)] = path
    from grefine.scorers.learned import DomainScorer

    folder = None
    if pipeline is not None:
        folder = pipeline_folder(pipeline)
        if folder is None:
            raise ConfigError(f"There is no pipeline '{pipeline}' here: {', '.join(pipeline_names())} or a folder.")
    scorers: dict[str, Scorer] = {}
    setup: dict[str, Any] = {"device": device}
    for name in names:
        where = given.get(name)
        if where is None and folder is not None and (inside := carried(folder, name)) is not None:
            where = str(inside)
        scorers[name] = scorer = load_scorer(name, where, device, allow_noncommercial, force)
        setup[name] = [scorer.spec.version, _state_of(where)]
        if isinstance(scorer, DomainScorer):
            setup[name] += [_state_of(str(scorer.domain.folder)), force]
    return scorers, setup


def _state_of(where: str | None) -> list[Any]:
    """Return path, sizes and times of the weights, so that other weights of the same name are noticed."""
    if where is None:
        return []
    path = Path(where)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [str(path), [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]]
