"""What a benchmark hands over to be written down: rows against an alternative, plain tables, curves, remarks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Row

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Table:
    """Numbers without an alternative beside them."""

    title: str
    head: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Curve:
    """Cost against work."""

    name: str
    """Of the picture's file."""
    title: str
    x: str
    y: str
    series: dict[str, list[list[float]]]
    """Points (work, cost) by the name of the line."""
    levels: dict[str, float] = field(default_factory=dict)
    """Costs that do not depend on the work, drawn as dashed lines."""
    log: bool = False


@dataclass(frozen=True)
class Part:
    """One benchmark's results."""

    name: str
    title: str
    says: str
    """What is compared with what, in one or two sentences."""
    rows: list[Row] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a reader must know, first of all why something was missed."""
    about: dict[str, Any] = field(default_factory=dict)
    """The machine, the date, how long it took; filled in by the runner."""

    def save(self, folder: Path = RESULTS) -> Path:
        """Write the part as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"run_{self.name}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> Part:
        """Read what `save` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        values["tables"] = [Table(**table) for table in values["tables"]]
        values["curves"] = [Curve(**curve) for curve in values["curves"]]
        return cls(**values)


def straightness(points: list[list[float]]) -> float:
    """Return the power of the work that the cost grows with between the two largest works: 1 is linear, 0 is flat."""
    from math import log

    (x0, y0), (x1, y1) = sorted(points)[-2:]
    return log(y1 / y0) / log(x1 / x0)
