"""Every example runs as it stands, is short, and does what it says."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
MADE = {"gallery", "make_images", "page_strip"}
"""Scripts that make the pictures of this repository."""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")

    def go(name: str) -> str:
        monkeypatch.setattr(sys, "argv", [name])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return go


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_short(path):
    text = path.read_text()
    assert path.stem in MADE or len(text.splitlines()) <= 40
    assert path.stem in MADE or f"test_{path.stem}(" in Path(__file__).read_text(), "an example that nothing runs"


def test_refine_one(run, tmp_path):
    assert "Kept: " in run("refine_one")
    assert (tmp_path / "refined.png").is_file()


def test_refine_folder(run, tmp_path):
    pytest.importorskip("pandas")
    said = run("refine_folder")
    assert "A dry run: nothing was written." in said
    assert "4 untouched, 2 refined" in said
    assert "failed_phrases" in said
    assert (tmp_path / "refined" / "report.html").is_file()


def test_choose_among_candidates(run, tmp_path):
    said = run("choose_among_candidates")
    assert "candidates=1: drawn (1,)" in said
    assert "candidates=4: drawn (4,)" in said
    assert "mdiqa chose among the repaints (regions x tries: 1 x 4); " in said
    assert (tmp_path / "chosen.png").is_file()


def test_look_only(run, tmp_path):
    said = run("look_only")
    assert "orange house: noun" in said
    assert "would repaint" in said
    assert all((tmp_path / name).is_file() for name in ("quality.png", "alignment.png", "mask.png"))


def test_before_after(run, tmp_path):
    assert "Perceptual quality fell" in run("before_after")
    assert (tmp_path / "evaluation" / "report.html").is_file()


def test_own_judge(run):
    before, after = map(float, re.search(r"sharpness ([\d.]+) -> ([\d.]+)", run("own_judge")).groups())
    assert after > before


def test_own_map(run, tmp_path):
    assert "of the picture is to be repainted" in run("own_map")
    assert (tmp_path / "own_map.png").is_file()


def test_own_painter(run, tmp_path):
    assert "smooth: kept" in run("own_painter")
    assert (tmp_path / "own_painter.png").is_file()


def test_mdiqa_loss(run):
    losses = [float(found) for found in re.findall(r"loss (-?[\d.]+)", run("mdiqa_loss"))]
    assert len(losses) == 40
    assert losses[-1] < losses[0]


def test_train_judge(run):
    dark, bright = map(float, re.search(r"dark ([-\d.]+), bright ([-\d.]+)", run("train_judge")).groups())
    assert bright > dark


def test_votes(run):
    lines = run("votes").splitlines()
    assert [line.split()[1] for line in lines[1:4]] == ["good", "fair", "poor"]


def test_notebook(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    path = EXAMPLES / "first_steps.ipynb"
    assert path.stat().st_size < 50_000
    kept = nbformat.read(path, as_version=4)
    done = client.NotebookClient(nbformat.from_dict(kept), resources={"metadata": {"path": str(tmp_path)}}).execute()

    def said(book):
        return "".join(o["text"] for cell in book.cells for o in cell.get("outputs", ()) if o.get("name") == "stdout")

    assert "orange house" in said(done)
    assert said(done).split("file ")[1].split()[:12] == said(kept).split("file ")[1].split()[:12]
