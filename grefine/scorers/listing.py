"""The registry as rows that a person can read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from grefine.errors import ConfigError
from grefine.indicators.recipe import fetched_pipeline
from grefine.resources import pipeline_names
from grefine.scorers.registry import availability, carried, metric_specs


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric and whether it can run here."""

    name: str
    direction: str
    range: str
    needs_prompt: bool
    axis: str
    runs: bool
    reason: str
    """Why not, and what would make it run; or a warning."""
    licence: str
    weights: str
    description: str


def list_metrics(only: str | None = None, pipeline: str | Path | None = None) -> list[MetricRow]:
    """Return every metric in order, or the paper's thirteen.

    Raises:
        ConfigError: an unknown pipeline.
    """
    folder = None
    if pipeline is not None:
        folder = fetched_pipeline(pipeline)
        if folder is None:
            raise ConfigError(f"There is no pipeline '{pipeline}' here: {', '.join(pipeline_names())} or a folder.")
    rows = []
    for spec in metric_specs(only):
        state = availability(spec.name, carried(folder, spec.name) if folder is not None else None)
        rows.append(
            MetricRow(
                spec.name, spec.direction, _span(spec.range), spec.needs_prompt, spec.axis, state.runs, state.reason,
                spec.licence, spec.weights, spec.description,
            )
        )  # fmt: skip
    return rows


def _span(bounds: tuple[float, float]) -> str:
    low, high = (
        "-inf" if math.isinf(bounds[0]) else f"{bounds[0]:g}",
        "inf" if math.isinf(bounds[1]) else f"{bounds[1]:g}",
    )
    return f"{low}..{high}"
