"""No text and no odd picture costs a run its table or its page, nor its neighbours their turn, in any command."""

from __future__ import annotations

import csv
import io
import json

import pytest
from components import save_tiny
from hostile import chunk, png
from PIL import PngImagePlugin
from small_world import by_file, config, random_pipeline, scene
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ImageError
from grefine.folder import runner
from grefine.folder.options import FolderOptions
from grefine.io import images
from grefine.io.generators.found import sound_text
from grefine.io.images import read_image
from grefine.io.picture import printable
from grefine.io.prompts import PromptSources

HALF = r"""{"3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0]}},
 "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a \ud800 cone", "clip": ["4", 1]}},
 "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}}}"""


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


def with_text(path, key, value, number=1):
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value)
    scene(number).save(path, pnginfo=info)


@pytest.fixture
def odd(tmp_path):
    """A good picture, and four that no command may stumble over."""
    source = tmp_path / "in"
    source.mkdir()
    scene(0).save(source / "good.png")
    (source / "good.txt").write_text("a red cone")
    with_text(source / "half.png", "prompt", HALF)
    with_text(source / "link.png", "workflow", json.dumps({"nodes": [], "links": [[[], 1, 2]]}), 2)
    with_text(source / "wire.png", "workflow", json.dumps({"nodes": [{"inputs": [{"link": {}}]}]}), 3)
    parts = chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", bytes(300))
    (source / "palette.png").write_bytes(png(4, 4, 8, 3, bytes(20), parts))
    return source


def test_halves_of_characters():
    assert sound_text("a \ud800 cone") == "a \N{REPLACEMENT CHARACTER} cone"
    assert sound_text("\ud83d\ude00 \N{PINE DECORATION} ok") == "\N{GRINNING FACE} \N{PINE DECORATION} ok"
    assert printable("a\ud800b\udcff\n") == "a\\ud800b\\xff\\n"


def with_page(source, out, pipe, **options):
    return runner.refine_folder(source, out, pipe, config=config(), options=FolderOptions(batch_size=4), **options)


def test_a_half_character_in_metadata_or_table(pipe, odd, tmp_path):
    table, out = tmp_path / "prompts.jsonl", tmp_path / "out"
    table.write_text('{"file": "good.png", "prompt": "a \\ud800 ball"}\n')
    for _ in range(2):
        summary = with_page(odd, out, pipe, prompts=table)
        assert (summary.done + summary.resumed, summary.counts["failed"], summary.exit_code) == (4, 1, 1)
        assert summary.unwritten == []
    lines = {line["file"]: line for line in csv.DictReader(io.StringIO((out / "results.csv").read_text()))}
    assert len(lines) == 5
    assert lines["good.png"]["prompt"] == "a \N{REPLACEMENT CHARACTER} ball"
    assert lines["half.png"]["prompt"] == "a \N{REPLACEMENT CHARACTER} cone"
    assert "half.png" in (out / "report.html").read_text()
    assert "palette.png" in by_file(out)["palette.png"]["reason"]


def test_a_half_character_given_for_all(pipe, odd, tmp_path):
    assert with_page(odd / "link.png", tmp_path / "out", pipe, prompt="a \udcff\ud800 ball").exit_code == 0
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_end_of_a_run_survives_its_table_and_its_page(pipe, odd, tmp_path):
    """A folder stands where the table belongs: the page is written, and the run is not called whole."""
    out = tmp_path / "out"
    with_page(odd / "good.png", out, pipe)
    (out / "results.csv").unlink()
    (out / "results.csv").mkdir()
    summary = with_page([odd / "good.png", odd / "half.png"], out, pipe)
    assert (summary.done, summary.unwritten, summary.exit_code) == (1, ["results.csv"], 1)
    assert "half.png" in (out / "report.html").read_text()


def test_inputs_that_changed_or_vanished_are_shown_as_unreadable(pipe, odd, tmp_path):
    out = tmp_path / "out"
    with_page(odd / "good.png", out, pipe)
    (odd / "good.png").write_bytes(b"")
    with_page(odd / "half.png", out, pipe)
    (odd / "half.png").unlink()
    assert with_page(odd / "link.png", out, pipe).exit_code == 0
    page = (out / "report.html").read_text()
    assert all(name in page for name in ("good.png", "half.png", "link.png"))


def test_a_picture_that_was_let_in_is_on_the_page_whatever_its_size(pipe, odd, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    monkeypatch.setattr(images.read_image, "__defaults__", (100,))
    done = runner.refine_folder(odd / "link.png", tmp_path / "out", pipe, config=config(), options=FolderOptions())
    assert (done.exit_code, done.unwritten) == (0, [])
    assert ("0" * 24) not in (tmp_path / "out" / "report.html").read_text()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


def test_other_commands_go_on_after_an_odd_picture(tiny, odd, tmp_path):
    for command in (
        ["map", odd, "-o", tmp_path / "maps", "--pipeline", tiny, "--json"],
        ["score", odd, "--metrics", "piqe", "-o", tmp_path / "scores.json"],
        ["evaluate", odd, odd, "--metrics", "piqe", "-o", tmp_path / "eval", "--no-report"],
        ["compare", odd, "-o", tmp_path / "cmp", "--refiners", "identity", "--metrics", "piqe", "--noise-images", "0"],
        ["plan", odd, "-o", tmp_path / "plans", "--pipeline", tiny, "--force"],
    ):
        done = CliRunner().invoke(app, list(map(str, command)))
        assert done.exit_code == 1, (command[0], done.output, done.exception)
        assert "palette.png' is damaged" in done.output, command[0]
    assert {path.name.split(".")[0] for path in (tmp_path / "plans").glob("*.plan.json")} == {
        "good",
        "half",
        "link",
        "wire",
    }
    maps = {path.name.split(".")[0] for path in (tmp_path / "maps").glob("*.json")}
    assert maps == {"good", "half", "link", "wire"}
    rows = json.loads((tmp_path / "scores.json").read_text())
    assert sum(not row["note"] for row in rows) == 4
    assert "\N{REPLACEMENT CHARACTER} cone" in (tmp_path / "scores.json").read_text()
    assert "link.png" in (tmp_path / "eval" / "scores.csv").read_text()


def test_nothing_is_measured_on_pictures_of_which_one_is_damaged(tiny, odd, tmp_path):
    for command in (["calibrate", "--out", tmp_path / "c.json"], ["selfcheck"]):
        done = CliRunner().invoke(app, list(map(str, [*command, "--pipeline", tiny, "--images", odd])))
        assert isinstance(done.exception, ImageError), command
        assert "palette.png' is damaged" in str(done.exception)
    assert not (tmp_path / "c.json").exists()


def test_a_damaged_drawing_is_an_unclear_prompt(odd):
    for name in ("link", "wire"):
        image = read_image(odd / f"{name}.png")
        found = PromptSources().find(image, image.path.name)
        assert found.prompt == ""
        assert "only as drawn" in found.unsure
