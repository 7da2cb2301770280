"""The benchmark's result: rows with intervals, what is absent and why, as JSON and as Markdown."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from grefine.errors import ConfigError

SCHEMA = 1
"""Version of the JSON; it rises when a row's id or meaning changes."""


@dataclass(frozen=True)
class Target:
    """A goal for one row."""

    at_least: float
    aim: float
    lower: bool = False
    """True where less is better: the goals are upper limits."""


TARGETS: dict[str, Target] = {
    "pq.ap.seen": Target(0.90, 0.95),
    "pq.ap.heldout": Target(0.50, 0.80),
    "pq.auc": Target(0.98, 0.995),
    "pq.srcc": Target(0.75, 0.90),
    "aq.auc.colour": Target(0.98, 0.99),
    "aq.auc.missing": Target(0.98, 0.99),
    "aq.auc.object": Target(0.96, 0.99),
    "aq.auc.texture": Target(0.86, 0.96),
    "aq.auc.relation": Target(0.80, 0.95),
    "aq.auc.count": Target(0.90, 0.95),
    "aq.named": Target(0.78, 0.95),
    "aq.pointing": Target(0.98, 0.995),
    "aq.ap": Target(0.92, 0.96),
    "repaint.colour": Target(0.95, 0.99),
    "repaint.object": Target(0.75, 0.93),
    "repaint.texture": Target(0.50, 0.80),
    "repair.distance": Target(0.85, 0.45, lower=True),
    "repair.attributes_worse": Target(0.15, 0.02, lower=True),
    "whole.improved": Target(0.62, 0.72),
    "whole.worse": Target(0.02, 0.01, lower=True),
    "clean.untouched": Target(0.98, 1.0),
    "clean.untouched.jpeg": Target(0.94, 0.99),
    "clean.untouched.webp": Target(0.94, 0.99),
    "clean.untouched.resized": Target(0.94, 0.99),
    "outside.worse": Target(0.01, 0.0, lower=True),
    "clean.worse": Target(0.01, 0.0, lower=True),
    "exact": Target(1.0, 1.0),
    "judge.moe": Target(0.90, 0.95),
    "judge.mdiqa": Target(0.85, 0.95),
    "judge.lar": Target(0.90, 0.95),
    "judge.prompt": Target(0.95, 0.99),
    "guide.sharpness": Target(0.80, 0.95),
    "whole.kind.blur.improved": Target(0.45, 0.70),
    "whole.kind.jpeg.improved": Target(0.30, 0.60),
    "whole.kind.warp.improved": Target(0.55, 0.70),
    "whole.kind.smear.improved": Target(0.30, 0.50),
    "whole.kind.texture.improved": Target(0.65, 0.80),
}
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
            by_reason: dict[str, list[str]] = {}
            for name, reason in self.absent.items():
                by_reason.setdefault(reason, []).append(name)
            lines += ["", "Not measured:", ""]
            lines += [f"- {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
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


def _goals(row: Row, target: Target | None) -> str:
    if target is None:
        return " |  | "
    sign, verdict = -1 if target.lower else 1, "below"
    if sign * row.value >= sign * target.aim:
        verdict = "aim"
    elif sign * row.value >= sign * target.at_least:
        verdict = "reached"
    return f"{target.at_least:g} | {target.aim:g} | {verdict}"
