"""Wide tables and the paper's count of negative optimisations, from its own Tables 2-5."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from grefine.errors import ConfigError
from grefine.evaluate.plots import ForestRow, forest_svg, radar_axes, radar_svg
from grefine.evaluate.tables import negative_optimisations, number, to_latex, to_markdown, to_rows, wide_table

PAPER = Path(__file__).parent.parent / "golden" / "paper_tables.csv"
COUNTS = {
    "RFDN": 28, "Swin2SR": 11, "StableSR": 10, "DASR": 39, "SD-Upscale": 35, "InstructPix2Pix": 43, "DiffBIR": 20,
    "PASD": 12, "SDXL-Refiner": 22, "SD": 31, "SDXL": 30, "InstructIR": 18, "Q-Refine": 10, "G-Refine": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def paper():
    with PAPER.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_papers_counts(paper):
    assert negative_optimisations(paper) == COUNTS


def test_counts_per_database_add_up(paper):
    tables = {row["table"] for row in paper}
    each = [negative_optimisations([row for row in paper if row["table"] == table]) for table in tables]
    assert {name: sum(found[name] for found in each) for name in COUNTS} == COUNTS


def test_numbers_count_like_text_and_order_does_not_matter(paper):
    as_numbers = [{k: v if k in ("table", "database", "method") else float(v) for k, v in r.items()} for r in paper]
    assert negative_optimisations(reversed(as_numbers)) == COUNTS


def test_direction_is_known_stated_or_higher():
    rows = [{"method": "original", "brisque": 10, "mine": 1.0}, {"method": "x", "brisque": 12, "mine": 2.0}]
    assert negative_optimisations(rows) == {"x": 1}
    assert negative_optimisations(rows, directions={"mine": "lower"}) == {"x": 2}
    assert negative_optimisations(rows, directions={"brisque": "higher"}) == {"x": 0}


def test_per_image_rows_and_empty_cells():
    rows = [
        {"image": "1", "method": "original", "m": 0.5},
        {"image": "1", "method": "x", "m": 0.4},
        {"image": "2", "method": "original", "m": 0.5},
        {"image": "2", "method": "x", "m": ""},
        {"image": "2", "method": "y", "m": math.nan},
    ]
    assert negative_optimisations(rows) == {"x": 1, "y": 0}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"method": "x", "m": 1}], "no row of the method 'original'"),
        ([{"m": 1}], "names no method"),
        ([{"method": "orignal", "m": 1}], "did you mean 'orignal'"),
    ],
)
def test_rows_that_cannot_be_counted(rows, words):
    with pytest.raises(ConfigError, match=words):
        negative_optimisations(rows)


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


def test_texts(table):
    markdown = to_markdown(table)
    assert r"| y\|\<b\> | 0.4000 ▼ | **10.00** |" in markdown
    assert r"b\_1 ↓†" in markdown
    assert "Means over 7 images" in markdown
    latex = to_latex(table)
    assert r"b\_1 $\downarrow$$^{\dagger}$" in latex
    assert r"\textbf{0.7000}" in latex
    assert r"25.00$^{\blacktriangledown}$" in latex
    assert latex.count(r"\\") == 4
    header, rows = to_rows(table)
    assert header == ["method", "m", "b_1"]
    assert rows[1] == ["x", 0.7, 25.0]


def test_all_equal_has_no_best():
    found = wide_table({"original": {"m": 1.0}, "x": {"m": 1.0}}, baseline="original")
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
