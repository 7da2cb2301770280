"""Wide tables and the paper's count of negative optimisations, from its own Tables 2-5."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from grefine.evaluate.plots import ForestRow, forest_svg, radar_axes, radar_svg
from grefine.evaluate.tables import number, to_latex, to_markdown, wide_table, write_table

PAPER = Path(__file__).parent.parent / "golden" / "paper_tables.csv"
COUNTS = {
    "RFDN": 28, "Swin2SR": 11, "StableSR": 10, "DASR": 39, "SD-Upscale": 35, "InstructPix2Pix": 43, "DiffBIR": 20,
    "PASD": 12, "SDXL-Refiner": 22, "SD": 31, "SDXL": 30, "InstructIR": 18, "Q-Refine": 10, "G-Refine": 1,
}  # fmt: skip


def worse_cells(table):
    """Return by method how many of its cells are worse than the original's."""
    return {method: sum(cell.worse for cell in cells) for method, cells in table.rows if method != table.baseline}


def test_the_papers_counts():
    tables = {}
    with PAPER.open(newline="") as file:
        for row in csv.DictReader(file):
            values = {k: float(v) for k, v in row.items() if k not in ("table", "database", "method")}
            tables.setdefault((row["table"], row["database"]), {})[row["method"]] = values
    each = [
        worse_cells(wide_table(means, baseline="original", directions={"BRISQUE": "lower"}))
        for means in tables.values()
    ]
    assert {name: sum(found[name] for found in each) for name in COUNTS} == COUNTS


def test_higher_is_better_unless_stated():
    means = {"original": {"a": 10, "mine": 1.0}, "x": {"a": 9, "mine": 2.0}}
    assert worse_cells(wide_table(means, baseline="original", directions={})) == {"x": 1}
    assert worse_cells(wide_table(means, baseline="original", directions={"mine": "lower"})) == {"x": 2}


def test_missing_and_undefined_cells_count_for_nobody():
    means = {"original": {"m": 0.5}, "x": {}, "y": {"m": math.nan}}
    assert worse_cells(wide_table(means, baseline="original", directions={})) == {"x": 0, "y": 0}


@pytest.fixture
def table():
    means = {"original": {"m": 0.5, "b_1": 20.0}, "x": {"m": 0.7, "b_1": 25.0}, "y|<b>": {"m": 0.4, "b_1": 10.0}}
    return wide_table(means, baseline="original", directions={"b_1": "lower"}, in_loop=["b_1"], n=7)


def test_marks(table):
    cells = dict(table.rows)
    assert [c.best for c in cells["x"]] == [True, False]
    assert [c.second for c in cells["original"]] == [True, True]
    assert [c.worse for c in cells["x"]] == [False, True]
    assert [c.worse for c in cells["y|<b>"]] == [True, False]
    assert not any(c.worse for c in cells["original"])


def test_texts(table, tmp_path):
    markdown = to_markdown(table)
    assert r"| y\|\<b\> | 0.4000 ▼ | **10.00** |" in markdown
    assert r"b\_1 ↓†" in markdown
    assert "Means over 7 images" in markdown
    latex = to_latex(table)
    assert r"b\_1 $\downarrow$$^{\dagger}$" in latex
    assert r"\textbf{0.7000}" in latex
    assert r"25.00$^{\blacktriangledown}$" in latex
    assert latex.count(r"\\") == 4
    write_table(table, tmp_path)
    rows = [line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines()]
    assert rows[0] == ["method", "m", "b_1"]
    assert rows[2] == ["x", "0.7", "25.0"]


def test_all_equal_has_no_best():
    found = wide_table({"original": {"m": 1.0}, "x": {"m": 1.0}}, baseline="original", directions={})
    assert not any(cell.best or cell.second or cell.worse for _, cells in found.rows for cell in cells)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0724, "0.07240"),
        (66.337, "66.34"),
        (1234.5, "1234"),
        (0.0, "0.000"),
        (math.nan, "n/a"),
        (2.5e-7, "2.500e-07"),
    ],
)
def test_numbers_for_reading(value, text):
    assert number(value) == text


def test_plots_scale_and_turn():
    axes = radar_axes(["a", "b"], ["b"], {"x": {"a": 1.0, "b": 5.0}, "y": {"a": 3.0, "b": 9.0}})
    assert [(axis.centre, axis.rim) for axis in axes] == [(1.0, 3.0), (9.0, 5.0)]
    assert radar_svg(axes, {}, title="two axes are no radar") == ""
    row = ForestRow("<m>", 0.5, 0.2, 0.8, 0.1, "+0.5")
    svg = forest_svg([row, ForestRow("n", -0.5, -0.8, -0.2, 0.0, "x", "loop")], title="t", unit="SD")
    assert "&lt;m&gt;" in svg
    assert 'class="row metric gain"' in svg
    assert 'class="row loop loss"' in svg
