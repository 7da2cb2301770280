"""The one command: parts, refusals, results and the page."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import run
from benchmarks.geometry import Geometry, counted_refine
from benchmarks.measure import Times, compared
from benchmarks.page import number, write_page
from benchmarks.part import Curve, Part, Table
from grefine.errors import ConfigError


def some_part(name="refine", target=20.0):
    fast, slow = Times((1.0, 1.0), (1.0, 1.0)), Times((9.0, 11.0), (9.0, 11.0))
    return Part(
        name,
        "A part",
        "Ours against theirs.",
        [compared("a picture", fast, slow, "theirs", target, pixels=4096), compared("another", fast, slow, "theirs")],
        [Table("Sizes", ["what", "MiB"], [["all", 12.345]])],
        [Curve("of_a_test", "Cost", "pixels", "seconds", {"ours": [[1, 1.0], [2, 2.5]]}, {"theirs": 9.0})],
        ["Missed because of a reason."],
        {
            "cpu": "a processor",
            "cores": 2,
            "threads": 1,
            "torch": "2",
            "date": "2026-01-01",
            "seconds": 3,
            "load": 0.5,
        },
    )


@pytest.mark.parametrize("name", run.PARTS)
def test_every_part_can_be_run(name):
    module = importlib.import_module(run.PARTS[name])
    assert list(inspect.signature(module.part).parameters)[:2] == ["quick", "device"]


def test_a_part_is_saved_whole(tmp_path):
    part = some_part()
    assert Part.load(part.save(tmp_path)) == part


def test_page_says_what_was_missed(tmp_path):
    page = tmp_path / "docs" / "benchmarks.md"
    write_page([some_part(), some_part("maps", target=4.0)], page)
    text = page.read_text()
    assert text.count("| A part | a picture | theirs | 10.00 x | 20 x |") == 1, "what was reached is not listed"
    assert "10.00 (9.00 to 11.00)" in text
    assert "Missed because of a reason." in text
    assert "a processor, 2 cores" in text
    picture = page.parent / "img" / "bench_of_a_test.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"img/{picture.name}" in text


def test_one_part_again_keeps_the_others(tmp_path, monkeypatch, capsys):
    results, page = tmp_path / "results", tmp_path / "page.md"
    some_part("maps").save(results)

    class Module:
        @staticmethod
        def part(quick, device):
            assert (quick, device) == (True, "cpu")
            return some_part("text")

    monkeypatch.setattr(run.importlib, "import_module", lambda name: Module)
    monkeypatch.setattr(run, "write_page", lambda parts, page: page.write_text(" ".join(p.name for p in parts)))
    assert run.main(["--only", "text", "--quick", "--results", str(results), "--page", str(page)]) == 0
    assert page.read_text() == "maps text"
    saved = Part.load(results / "run_text.json")
    assert saved.about["quick"] is True
    assert saved.about["cores"] >= 1
    assert capsys.readouterr().out.strip() == str(page)


def test_unknown_part(capsys):
    assert run.main(["--only", "refin"]) == 2
    assert "did you mean 'refine'?" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_no_device(capsys):
    assert run.main(["--device", "cuda"]) == 2
    said = capsys.readouterr().err
    assert "no CUDA device" in said
    assert "leave --device out" in said


def test_too_little_memory_names_what_fits():
    with pytest.raises(ConfigError, match=r"--width 0\.75 --side 256 would fit"):
        Geometry(1.0, 1024, "cuda", torch.bfloat16).check_memory(8 * 2**30)
    with pytest.raises(ConfigError, match="nothing of this benchmark fits"):
        Geometry(1.0, 1024, "cuda", torch.bfloat16).check_memory(2**20)
    Geometry(1.0, 1024, "cuda", torch.bfloat16).check_memory(140 * 2**30)


@pytest.mark.slow
def test_counted_work_of_the_real_size():
    assert 2.0e14 < counted_refine(1024) < 2.8e14


def test_numbers_are_short():
    assert [number(v) for v in (0.012345, 12.345, 12345.6, 7, "no")] == ["0.0123", "12.3", "12346", "7", "no"]
