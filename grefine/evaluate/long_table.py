"""The stored truth: one row per image, stage and metric value. Every other table is a view of it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from grefine.errors import ConfigError
from grefine.io.atomic import write_text

BEFORE = "before"
AFTER = "after"
NOISE = f"{BEFORE}+"
"""Begins the stages that are the input with a change that nobody sees, such as "before+jpeg"."""

_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "'")


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


def read_rows(path: str | Path) -> list[ScoreRow]:
    """Read a long table back.

    Raises:
        ConfigError: the file is not such a table; file and line are named.
    """
    rows = []
    with Path(path).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS[:4] if name not in (reader.fieldnames or ())]
        if missing:
            raise ConfigError(
                f"'{path}' is not a long table: it lacks {', '.join(missing)}; it needs {', '.join(COLUMNS)}."
            )
        for line, cells in enumerate(reader, start=2):
            try:
                rows.append(
                    ScoreRow(
                        image=from_cell(cells["image"]),
                        stage=from_cell(cells["stage"]),
                        metric=from_cell(cells["metric"]),
                        value=float(cells["value"]),
                        seed=int(cells.get("seed") or 0),
                        device=from_cell(cells.get("device") or "cpu"),
                        metric_version=from_cell(cells.get("metric_version") or "1"),
                    )
                )
            except (TypeError, ValueError) as error:
                raise ConfigError(f"'{path}' line {line}: {error}.") from error
    return rows


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
    writer.writerow([to_cell(name) for name in header])
    for row in rows:
        writer.writerow([to_cell(value) for value in row])
    write_text(path, buffer.getvalue())


def to_cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe is put before text that could be one."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str) and value.startswith(_DANGEROUS):
        return "'" + value
    return value


def from_cell(text: str) -> str:
    """Undo `to_cell`."""
    return text[1:] if len(text) > 1 and text[0] == "'" and text[1:].startswith(_DANGEROUS) else text
