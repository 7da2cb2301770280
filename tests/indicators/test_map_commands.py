"""`grefine map`, `calibrate` and `selfcheck` on a small folder with random weights: files, tables, exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_folder import write_folder
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ConfigError, ImageError, PromptError, WeightsMissing, WorldMismatch
from grefine.indicators.load import load_maps, stored_calibration
from grefine.pipeline import GRefinePipeline
from lab.world.pictures import pictures_with_captions

EXAMPLES = Path(__file__).parents[2] / "examples" / "images"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A pipeline folder, 36 toy pictures with a table of prompts."""
    root = tmp_path_factory.mktemp("maps")
    write_folder(root / "pipe")
    (root / "good" / "deep").mkdir(parents=True)
    pictures, captions = pictures_with_captions(36, 3)
    with (root / "prompts.csv").open("w", newline="") as sink:
        table = csv.writer(sink)
        table.writerow(["file", "prompt"])
        for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            name = f"{'deep/' if index % 2 else ''}{index:02d}.png"
            picture.save(root / "good" / name)
            table.writerow([name, caption])
    return root


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_map_writes_everything(place, tmp_path):
    (place / "other").mkdir(exist_ok=True)
    (place / "other" / "broken.png").write_bytes(b"not an image")
    done = run(
        "map", place / "good" / "00.png", place / "other", "-o", tmp_path, "--pipeline", place / "pipe",
        "--prompts", place / "prompts.csv", "--json",
    )  # fmt: skip
    assert done.exit_code == 1, "one input failed, the other is done"
    assert "broken.png" in done.stderr
    (line,) = done.stdout.splitlines()
    known = json.loads(line)
    assert known["prompt_from"] == "table prompts.csv"
    assert not known["calibrated"]
    assert known["phrases"][0].keys() >= {"phrase", "noun", "a_phs", "a_pns", "verdict"}
    saved = json.loads((tmp_path / "00.maps.json").read_text())
    assert saved["p"] == known["p"]
    for name in saved["files"]:
        assert (tmp_path / name).is_file(), name
    values = np.load(tmp_path / "00.quality.npy")
    with Image.open(tmp_path / "00.quality.png") as grey:
        assert np.abs(np.asarray(grey) / 65535 - values).max() < 1e-4
    with Image.open(tmp_path / "00.mask.png") as mask:
        assert mask.size == (64, 64)
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
    with Image.open(tmp_path / "00.sheet.png") as sheet:
        assert min(sheet.size) > 256


def test_map_of_a_folder_without_prompts_judges_quality_only(place, tmp_path):
    done = run("map", place / "good", "-o", tmp_path, "--pipeline", place / "pipe")
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.rglob("*.maps.json"))) == 36
    assert (tmp_path / "deep" / "01.maps.json").is_file()
    assert "The prompt is empty. Only p counts." in done.stdout


def test_calibrate_stores_and_says_what_it_was_made_from(place):
    before = (place / "pipe" / "model_index.json").read_text()
    done = run(
        "calibrate", "--pipeline", place / "pipe", "--images", place / "good", "--prompts", place / "prompts.csv"
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    stored = stored_calibration(place / "pipe")
    assert stored.to_dict() == told["calibration"]
    assert stored.made_from["images"] == 36
    assert json.loads(before).items() <= json.loads((place / "pipe" / "model_index.json").read_text()).items()
    assert load_maps(place / "pipe").calibration.calibrated
    (place / "pipe" / "model_index.json").write_text(before)


def test_calibrate_into_a_file_leaves_the_pipeline(place, tmp_path):
    before = (place / "pipe" / "model_index.json").read_text()
    arguments = ("--pipeline", place / "pipe", "--images", place / "good", "--prompts", place / "prompts.csv")
    assert run("calibrate", *arguments, "--out", tmp_path / "c.json").exit_code == 0
    assert (place / "pipe" / "model_index.json").read_text() == before
    done = run(
        "map", place / "good" / "00.png", "-o", tmp_path, "--pipeline", place / "pipe",
        "--calibration", tmp_path / "c.json", "--json",
    )  # fmt: skip
    assert json.loads(done.stdout)["calibrated"]


def test_selfcheck_reports_and_fails_on_random_weights(place):
    pictures = ("--images", place / "good", "--prompts", place / "prompts.csv")
    done = run("selfcheck", "--pipeline", place / "pipe", "--count", 6, "--json", *pictures)
    checks = json.loads(done.stdout)
    assert [check["name"] for check in checks] == [
        "blur lowers p",
        "a swapped prompt lowers a",
        "a pasted defect is found",
    ]
    assert done.exit_code == (0 if all(check["passed"] for check in checks) else 1)
    assert "Uncalibrated" in done.stderr
    named = run("selfcheck", "--pipeline", place / "pipe", "--count", 4, *pictures)
    assert named.exit_code in (0, 1)
    assert "of 4" in named.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("map", "absent.png", "-o", "x"), ImageError, "no file or folder 'absent.png'"),
        (("calibrate", "--pipeline", "PIPE", "--images", "GOOD"), PromptError, "have no prompt"),
        (
            ("calibrate", "--pipeline", "PIPE", "--images", "GOOD", "--phrase-score", "mean"),
            ConfigError,
            "class, peak, not 'mean'",
        ),
        (("selfcheck", "--pipeline", "EMPTY", "--images", "SHOWN"), WeightsMissing, "has no clip"),
        (("selfcheck", "--pipeline", "tinny", "--images", "SHOWN"), WeightsMissing, "'tinny' has no clip: give a"),
    ],
)
def test_refusals(place, tmp_path, arguments, error, message):
    known = {"PIPE": place / "pipe", "GOOD": place / "good", "EMPTY": tmp_path, "SHOWN": EXAMPLES}
    done = run(*(known.get(a, a) for a in arguments))
    assert isinstance(done.exception, error)
    assert message in str(done.exception)


def test_pictures_of_another_world_are_told_once_and_mapped_only_by_force(tmp_path):
    rows, columns = np.mgrid[0:90, 0:120]
    waves = np.stack([90 + 90 * np.sin(rows / 5 + columns / 7), 128 + 90 * np.cos(columns / 2), rows * 2.5], axis=-1)
    Image.fromarray(waves.clip(0, 255).astype(np.uint8)).save(tmp_path / "waves.png")
    pictures_with_captions(1, 8)[0][0].save(tmp_path / "toy.png")
    Image.fromarray(waves[::-1].clip(0, 255).astype(np.uint8)).save(tmp_path / "more.png")
    asked = ("map", tmp_path, "--prompt", "a red ball", "-o", tmp_path / "out", "--pipeline", "tiny")
    done = run(*asked)
    assert done.exit_code == 1
    lines = [line for line in done.stderr.splitlines() if "world" in line]
    assert len(lines) == 1
    assert lines[0].startswith("2 of 3 pictures are not of the toy world")
    assert "grefine fetch sdxl" in lines[0]
    assert (tmp_path / "out" / "toy.maps.json").is_file()
    assert not (tmp_path / "out" / "waves.maps.json").is_file()
    forced = run(*asked[:1], tmp_path / "waves.png", *asked[2:], "--force")
    assert forced.exit_code == 0
    assert "Forced, though not a picture of the toy world" in forced.stdout
    assert "forced" in json.loads((tmp_path / "out" / "waves.maps.json").read_text())


def test_no_pipeline_is_taken_silently(tmp_path):
    pictures_with_captions(1, 8)[0][0].save(tmp_path / "toy.png")
    for arguments in (("map", tmp_path, "-o", tmp_path / "out"), ("selfcheck", "--images", tmp_path)):
        with pytest.raises(ConfigError, match="Name a pipeline with --pipeline.*'sdxl'.*'tiny'"):
            raise run(*arguments).exception


def test_the_self_check_refuses_a_world_that_the_pipeline_does_not_know(tmp_path):
    for index, side in enumerate((70, 80, 90, 100)):
        Image.linear_gradient("L").resize((side, side)).convert("RGB").save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text("a red ball")
    done = run("selfcheck", "--pipeline", "tiny", "--images", tmp_path)
    assert isinstance(done.exception, WorldMismatch)
    assert "4 of 4 pictures are not of the toy world" in str(done.exception)


def test_released_weights_say_what_to_fetch(monkeypatch, tmp_path):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissing, match="grefine fetch clip"):
        load_maps("released")


@pytest.mark.parametrize("changes", [[], ["--set", "dilate=0", "--set", "max_area=0.05"]], ids=str)
def test_map_draws_the_mask_that_refine_would_use(tmp_path, changes):
    examples = Path(__file__).parents[2] / "examples" / "images"
    pipe = GRefinePipeline.from_pretrained("tiny")
    table = {row["file"]: row["prompt"] for row in csv.DictReader((examples / "prompts.csv").open(encoding="utf-8"))}
    names = ["01_clean.png", "05_blur.png", "08_cast.png", "12_missing.png"]
    done = run(
        "map", *(examples / name for name in names), "-o", tmp_path, "--prompts", examples / "prompts.csv",
        "--pipeline", "tiny", *changes,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    config = {"dilate": 0.0, "max_area": 0.05} if changes else None
    planned = pipe(
        prompt=[table[name] for name in names], image=[Image.open(examples / name) for name in names],
        config=config, plan_only=True, force=True,
    )  # fmt: skip
    for name, result in zip(names, planned.results, strict=True):
        mask = np.asarray(Image.open(tmp_path / name.replace(".png", ".mask.png"))) > 0
        assert np.array_equal(mask, result.plan.mask), name
        assert json.loads((tmp_path / name.replace(".png", ".maps.json")).read_text())["mask_note"] == result.plan.note
    assert any(result.plan.mask.any() for result in planned.results)
