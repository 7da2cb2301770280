"""Method × metric tables as text: Markdown, LaTeX, CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from grefine.evaluate.long_table import write_csv
from grefine.evaluate.tables import Cell, WideTable
from grefine.io.atomic import write_text
from grefine.io.prompt_table import safe_cell


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
        "| method | " + " | ".join(escape_markdown(table.header(m)) for m in table.metrics) + " |",
        "| --- |" + " ---: |" * len(table.metrics),
    ]
    for method, cells in table.rows:
        lines.append(f"| {escape_markdown(method)} | " + " | ".join(_markdown_cell(cell) for cell in cells) + " |")
    return "\n".join([*lines, "", legend(table)]) + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = number(cell.value)
    text = f"**{text}**" if cell.best else f"_{text}_" if cell.second else text
    return f"{text} ▼" if cell.worse else text


def legend(table: WideTable) -> str:
    """Return the sentence that explains the marks."""
    over = "" if table.n is None else f" over {table.n} image{'s' if table.n != 1 else ''}"
    parts = [f"Means{over}; best in bold, second in italics, "]
    parts.append(f"▼ worse than {table.baseline}.")
    if table.in_loop:
        parts.append(" † helped to make these images or sorts them, so it is no evidence.")
    return escape_markdown("".join(parts))


def escape_markdown(text: str) -> str:
    """Return text that a Markdown table shows as it is."""
    for character in "\\|`*_<>[]":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ").replace("\r", " ")


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "†": r"$^{\dagger}$",
}  # fmt: skip


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(_LATEX.get(character, character) for character in text.replace("\n", " "))


def to_latex(table: WideTable) -> str:
    r"""Return a booktabs table: \textbf best, \underline second, a triangle where worse than the original."""
    head = " & ".join(["method", *(escape_latex(table.header(m)) for m in table.metrics)])
    lines = [r"\begin{tabular}{l" + "r" * len(table.metrics) + "}", r"\toprule", head + r" \\", r"\midrule"]
    for method, cells in table.rows:
        lines.append(" & ".join([escape_latex(method), *(_latex_cell(cell) for cell in cells)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_cell(cell: Cell) -> str:
    text = number(cell.value)
    text = rf"\textbf{{{text}}}" if cell.best else rf"\underline{{{text}}}" if cell.second else text
    return rf"{text}$^{{\blacktriangledown}}$" if cell.worse else text


def write_table(table: WideTable, out: Path, further: Sequence[str] = ()) -> None:
    """Write table.md (with `further` lines below), table.tex and table.csv into `out`."""
    write_text(out / "table.md", "\n".join([to_markdown(table), *further]) + "\n" * bool(further))
    write_text(out / "table.tex", to_latex(table))
    write_csv(out / "table.csv", *to_rows(table))


def to_rows(table: WideTable) -> tuple[list[str], list[list[object]]]:
    """Return the plain table for CSV: header and rows, numbers unrounded, no marks."""
    return ["method", *table.metrics], [[safe_cell(method), *(c.value for c in cells)] for method, cells in table.rows]
