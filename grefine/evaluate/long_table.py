"""The stored truth: one row per image, stage and metric value. Every other table is a view of it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from grefine.io.atomic import write_text
from grefine.io.prompt_table import safe_cell

BEFORE = "before"
AFTER = "after"
NOISE = f"{BEFORE}+"
"""Begins the stages that are the input with a change that nobody sees, such as "before+jpeg"."""


Values = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metric → stage → image → value."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One number that was measured."""

    image: str
    """Path relative to the compared folders, with forward slashes."""
    stage: str
    """"before", "after" (or a method's name in a comparison), or a noise probe's."""
    metric: str
    value: float
    """NaN when the metric gave no number for this image."""
    seed: int = 0
    device: str = "cpu"
    metric_version: str = "1"


COLUMNS = tuple(f.name for f in fields(ScoreRow))


def write_rows(path: str | Path, rows: Iterable[ScoreRow]) -> None:
    """Write the long table as CSV, whole or not at all."""
    write_csv(path, COLUMNS, (astuple(row) for row in rows))


def values_of(rows: Iterable[ScoreRow]) -> dict[str, dict[str, dict[str, float]]]:
    """Return metric → stage → image → value."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        table.setdefault(row.metric, {}).setdefault(row.stage, {})[row.image] = row.value
    return table


def finite_pairs(before: Mapping[str, float], after: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Return (image, before, after) for images where both sides have a number, in name order."""
    return [
        (name, before[name], after[name])
        for name in sorted(before.keys() & after.keys())
        if math.isfinite(before[name]) and math.isfinite(after[name])
    ]


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically; text that a spreadsheet would run as a formula is written as text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([safe_cell(name) for name in header])
    for row in rows:
        writer.writerow([safe_cell(value) for value in row])
    write_text(path, buffer.getvalue())
