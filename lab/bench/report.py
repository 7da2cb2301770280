"""The benchmark's result: rows with intervals, what is absent and why, as JSON and as Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grefine.errors import ConfigError
from lab import table

SCHEMA = 1
"""Version of the JSON; it rises when a row's id or meaning changes."""


TARGETS: dict[str, tuple[float, float]] = table("bench/targets.yaml")
"""What the embedded pipeline is meant to reach, by row id: the least that is acceptable, and the aim."""


@dataclass(frozen=True)
class Row:
    """One measured quantity with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """Images (pairs, phrases) that it rests on."""


@dataclass
class Report:
    """All rows of one run."""

    about: dict[str, Any] = field(default_factory=dict)
    """Pipeline, sizes, seed, versions: what the numbers belong to."""
    rows: dict[str, Row] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """Rows that could not be measured, with the reason."""
    raw: list[dict[str, Any]] = field(default_factory=list)
    """One record per picture that was judged."""

    def add(self, rows: Mapping[str, Row]) -> None:
        """Take in rows; an id comes once."""
        for name, row in rows.items():
            if name in self.rows:
                raise ConfigError(f"The row '{name}' was measured twice.")
            if row.n:
                self.rows[name] = row
            else:
                self.absent[name] = "no case of this kind was drawn"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `rows` holds exactly value, low, high and n per id."""
        rows = {
            name: {"value": _plain(r.value), "low": _plain(r.low), "high": _plain(r.high), "n": r.n}
            for name, r in self.rows.items()
        }
        return {"schema": SCHEMA, "about": self.about, "rows": rows, "absent": self.absent}

    def markdown(self) -> str:
        """Return the rows as Markdown: those with a target first, then the rest by group, then what is absent."""
        about = ", ".join(f"{name} {value}" for name, value in self.about.items() if name != "pipeline")
        lines = [f"# Toy world: {self.about.get('pipeline', '')}", "", f"{about}.", ""]
        lines += ["| row | value | 95 % interval | n | at least | aim | |", "|---|---|---|---|---|---|---|"]
        for name, target in TARGETS.items():
            if (row := self.rows.get(name)) and ".kind." not in name:
                lines.append(f"| {name} | {_cells(row)} | {_goals(row, target)} |")
        others = [name for name in self.rows if name not in TARGETS and ".kind." not in name]
        if others:
            lines += ["", "| further rows | value | 95 % interval | n |", "|---|---|---|---|"]
            lines += [f"| {name} | {_cells(self.rows[name])} |" for name in others]
        lines += self._by_kind()
        if self.absent:
            lines += ["", "Not measured:", "", *(f"- {name}: {reason}" for name, reason in self.absent.items())]
        return "\n".join(lines) + "\n"

    def _by_kind(self) -> list[str]:
        """Return the rows of each kind of defect side by side."""
        first = "whole.kind."
        names = [name for name in self.rows if name.startswith(first) and name.endswith(".worse")]
        kinds = [name.removeprefix(first).removesuffix(".worse") for name in names]
        ways = [f"{way}kind" for way in ("noguard.whole.", "control.oracle.", "control.perfect.")]
        heads = ("kind", "n", "improved", "95 % interval", "worse", "no guard", "true places", "perfect")
        heads += ("at least", "aim", "")
        lines = ["", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        for kind in kinds:
            own = self.rows[f"{first}{kind}.improved"]
            beside = [self.rows[f"{first}{kind}.worse"], *(self.rows[f"{way}.{kind}.improved"] for way in ways)]
            between = f"{_number(own.low)} .. {_number(own.high)}"
            cells = [kind, str(own.n), _number(own.value), between, *(_number(row.value) for row in beside)]
            lines.append(f"| {' | '.join(cells)} | {_goals(own, TARGETS.get(f'{first}{kind}.improved'))} |")
        return lines if kinds else []


def _cells(row: Row) -> str:
    return f"{_number(row.value)} | {_number(row.low)} .. {_number(row.high)} | {row.n}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _goals(row: Row, target: Sequence[float] | None) -> str:
    if target is None:
        return " |  | "
    least, aim = target
    sign = -1 if aim < least else 1  # less is better where the aim is the smaller number
    reached = "reached" if sign * row.value >= sign * least else "below"
    return f"{least:g} | {aim:g} | {'aim' if sign * row.value >= sign * aim else reached}"
