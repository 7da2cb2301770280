"""The stored truth, one row per image, stage and metric value, and the method × metric tables made of it."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

from grefine.io.atomic import write_text
from grefine.io.prompt_table import safe_cell
from grefine.types import Direction

BEFORE = "before"
AFTER = "after"
NOISE = f"{BEFORE}+"
"""Begins the stages that are the input with a change that nobody sees, such as "before+jpeg"."""


Values = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Metric → stage → image → value."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
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
    table: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        table.setdefault(row.metric, {}).setdefault(row.stage, {})[row.image] = row.value
    return table


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically; text that a spreadsheet would run as a formula is written as text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([safe_cell(name) for name in header])
    for row in rows:
        writer.writerow([safe_cell(value) for value in row])
    write_text(path, buffer.getvalue())


@dataclass(frozen=True, slots=True)
class Cell:
    value: float
    best: bool = False
    second: bool = False
    worse: bool = False
    """Worse than the original."""


@dataclass(frozen=True, slots=True)
class WideTable:
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    baseline: str
    directions: Mapping[str, Direction] = field(default_factory=dict)
    in_loop: frozenset[str] = frozenset()
    """Metrics that steered the refinement: shown, never evidence."""
    n: int | None = None

    def header(self, metric: str) -> str:
        """The metric's name with its arrow, and a dagger when it was used in the loop."""
        arrow = "↓" if self.directions.get(metric) == "lower" else "↑"
        return f"{metric} {arrow}{'†' if metric in self.in_loop else ''}"


def wide_table(
    means: Mapping[str, Mapping[str, float]],
    *,
    baseline: str,
    directions: Mapping[str, Direction],
    in_loop: Iterable[str] = (),
    n: int | None = None,
) -> WideTable:
    """Build a table from method → metric → mean; best, second and worse than the original are marked."""
    metrics = list(dict.fromkeys(metric for row in means.values() for metric in row))
    known: dict[str, Direction] = {metric: directions.get(metric, "higher") for metric in metrics}
    ranks: dict[str, tuple[float, float]] = {}
    for metric in metrics:
        found = {row[metric] for row in means.values() if metric in row and math.isfinite(row[metric])}
        # One value, or all equal: nothing is best; of two, nothing is second.
        ordered = sorted(found, reverse=known[metric] == "higher") if len(found) > 1 else [math.nan]
        ranks[metric] = (ordered[0], ordered[1] if len(ordered) > 2 else math.nan)
    rows = []
    for method, values in means.items():
        cells = []
        for metric in metrics:
            value = values.get(metric, math.nan)
            first, second = ranks[metric]
            original = means[baseline].get(metric, math.nan)
            worse = value > original if known[metric] == "lower" else value < original
            cells.append(Cell(value, best=value == first, second=value == second, worse=worse))
        rows.append((method, tuple(cells)))
    return WideTable(tuple(metrics), tuple(rows), baseline, known, frozenset(in_loop), n)


def number(value: float, digits: int = 4) -> str:
    """Return a number for reading: four significant digits, "n/a" for NaN."""
    if not math.isfinite(value):
        return "n/a"
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 10.0 ** -(digits + 1)):
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))}f}"


def to_markdown(table: WideTable) -> str:
    """Return the table as Markdown: **best**, _second_, ▼ worse than the original."""
    if not table.metrics:
        return "No metric gave a number.\n"
    lines = [
        "| method | " + " | ".join(table.header(m).translate(_MARKDOWN) for m in table.metrics) + " |",
        "| --- |" + " ---: |" * len(table.metrics),
    ]
    for method, cells in table.rows:
        marked = [_marked(cell, "**{}**", "_{}_", "{} ▼") for cell in cells]
        lines.append(f"| {method.translate(_MARKDOWN)} | {' | '.join(marked)} |")
    over = "" if table.n is None else f" over {table.n} image{'s' if table.n != 1 else ''}"
    loop = " † helped to make these images or sorts them, so it is no evidence." if table.in_loop else ""
    legend = f"Means{over}; best in bold, second in italics, ▼ worse than {table.baseline}.{loop}"
    return "\n".join([*lines, "", legend.translate(_MARKDOWN)]) + "\n"


def _marked(cell: Cell, best: str, second: str, worse: str) -> str:
    text = number(cell.value)
    text = best.format(text) if cell.best else second.format(text) if cell.second else text
    return worse.format(text) if cell.worse else text


_MARKDOWN = str.maketrans({c: "\\" + c for c in "\\|`*_<>[]"} | {"\n": " ", "\r": " "})
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " ",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "†": r"$^{\dagger}$",
})  # fmt: skip


def to_latex(table: WideTable) -> str:
    r"""Return a booktabs table: \textbf best, \underline second, a triangle where worse than the original."""
    head = " & ".join(["method", *(table.header(m).translate(_LATEX) for m in table.metrics)])
    lines = [r"\begin{tabular}{l" + "r" * len(table.metrics) + "}", r"\toprule", head + r" \\", r"\midrule"]
    marks = (r"\textbf{{{}}}", r"\underline{{{}}}", r"{}$^{{\blacktriangledown}}$")
    for method, cells in table.rows:
        lines.append(" & ".join([method.translate(_LATEX), *(_marked(cell, *marks) for cell in cells)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write_table(table: WideTable, out: Path, further: Sequence[str] = ()) -> None:
    """Write table.md (with `further` lines below), table.tex and table.csv into `out`."""
    write_text(out / "table.md", "\n".join([to_markdown(table), *further]) + "\n" * bool(further))
    write_text(out / "table.tex", to_latex(table))
    rows = ([method, *(cell.value for cell in cells)] for method, cells in table.rows)
    write_csv(out / "table.csv", ["method", *table.metrics], rows)
