"""What tiny takes for its world: toy scenes however damaged, saved, enlarged or framed, and nothing else."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import WorldMismatch
from grefine.indicators.domain_check import domain_at
from grefine.io.images import read_image
from grefine.io.record import read_record
from grefine.models.domain import DomainNet, levels, tiles
from grefine.scorers.resolve import load_scorer
from lab.domain import TEST, fractal, plot, read_photographs, toy_groups
from lab.foreign import DRAWN, blurred, crop, drawn, resized
from lab.world.pictures import pictures_with_captions


@pytest.fixture(scope="module")
def tiny():
    return domain_at("tiny")


def test_toy_scenes_are_known(tiny):
    groups = dict(toy_groups(TEST, 16))
    assert {"clean", "smear", "unknown damage", "enlarged to 256", "frames of scenes"} <= set(groups)
    images = [image for group in groups.values() for image in group]
    assert sum(tiny.is_foreign(image) for image in images) <= len(images) * 0.005


def test_drawings_text_screens_noise_and_colours_are_foreign(tiny):
    rng = random.Random(TEST)
    images = [drawn(name, rng) for name in DRAWN for _ in range(20)]
    images += [draw(rng) for draw in (plot, fractal) for _ in range(10)]
    assert sum(not tiny.is_foreign(image) for image in images) <= len(images) * 0.005


@pytest.mark.weights
def test_no_held_out_photograph_is_changed_without_force(tmp_path):
    photographs = read_photographs(Path(os.environ["GREFINE_DATA"]) / "kodak", False)
    rng, source = random.Random(TEST), tmp_path / "in"
    source.mkdir()
    for number, photo in enumerate(photographs):
        views = [photo, photo.resize((64, 64)), *(blurred(photo, rng) for _ in range(4))]
        views += [resized(crop(photo, rng), rng.uniform(0.3, 3), rng) for _ in range(8)]
        views += [resized(photo, rng.uniform(0.1, 2), rng) for _ in range(3)]
        for index, view in enumerate(views):
            view.save(source / f"{number}_{index}.png", compress_level=1)
    done = run("refine", source, "-o", tmp_path / "out", "--pipeline", "tiny", "--no-report", "--json")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["foreign"] == summary["counts"]["failed"] == 204
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_large_picture_is_seen_at_every_scale():
    image = Image.new("RGB", (300, 200))
    assert [level.size for level in levels(image, 64)] == [(300, 200), (150, 100), (96, 64)]
    assert [level.size for level in levels(image.resize((64, 64)), 64)] == [(64, 64)]
    assert [level.size for level in levels(image.resize((30, 20)), 64)] == [(96, 64)]
    assert tiles(image, 64).shape == (20, 64, 64, 3)
    assert tiles(image.resize((3000, 2000)), 64).shape == (64, 64, 64, 3)


def test_the_network_comes_back_as_it_was_saved(tmp_path):
    net = DomainNet(channels=(4, 4, 4, 4), threshold=1.5).eval()
    net.save_pretrained(tmp_path)
    again = DomainNet.from_pretrained(tmp_path).eval()
    scene = pictures_with_captions(1, 0)[0][0]
    assert again.score(scene) == net.score(scene)
    assert again.config["threshold"] == 1.5


def test_a_picture_is_looked_at_once(tiny, monkeypatch):
    scene = Image.linear_gradient("L").convert("RGB")
    seen = []
    monkeypatch.setattr(tiny.net, "forward", lambda batch: seen.append(batch) or torch.zeros(len(batch)))
    first = tiny.is_foreign(scene)
    asked = len(seen)
    assert tiny.is_foreign(scene.copy()) == first
    assert len(seen) == asked > 0
    tiny.known.clear()


def test_a_judge_refuses_what_its_pipeline_does_not_know():
    foreign, scene = Image.linear_gradient("L").convert("RGB"), pictures_with_captions(1, 5)[0][0]
    judge = load_scorer("lar_iqa", "tiny")
    assert judge([scene])[0]["lar_iqa"] == load_scorer("lar_iqa", "tiny", force=True)([scene])[0]["lar_iqa"]
    with pytest.raises(WorldMismatch, match="Not a picture of the toy world.*'sdxl'"):
        judge([scene, foreign])
    assert load_scorer("lar_iqa", "tiny", force=True)([foreign])


@pytest.fixture
def mixed(tmp_path):
    """Two toy scenes and three pictures of nothing that tiny knows."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index, scene in enumerate(pictures_with_captions(2, 11)[0]):
        scene.save(folder / f"scene{index}.png")
    for index, side in enumerate((64, 96, 160)):
        Image.radial_gradient("L").resize((side, side)).convert("RGB").save(folder / f"other{index}.png")
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_refine_tells_strangers_once_and_leaves_them_alone(mixed, tmp_path):
    done = run("refine", mixed, "-o", tmp_path / "out", "--pipeline", "tiny")
    assert done.exit_code == 1
    assert (done.stdout + done.stderr).count("not of the toy world") == 1
    assert "3 of 5 pictures are not of the toy world" in done.stdout
    assert not list((tmp_path / "out").glob("other*"))


def test_force_is_said_in_every_result(mixed, tmp_path):
    out = tmp_path / "out"
    done = run("refine", mixed, "-o", out, "--pipeline", "tiny", "--force", "--set", "total_steps=4")
    assert done.exit_code == 0, done.output
    assert "what was forced on them means nothing" in done.stdout
    record = read_record(read_image(out / "other0.png").embedded)
    assert record.forced
    assert record.reason.startswith("Forced, though not a picture of the toy world:")
    assert not read_record(read_image(out / "scene0.png").embedded).forced
    assert "(forced)" in (out / "report.html").read_text()
    table = (out / "results.csv").read_text()
    assert table.count("Forced, though not a picture of the toy world") == 3


def test_scores_of_strangers_are_missing_unless_forced(mixed, tmp_path):
    asked = ("score", mixed, "--metrics", "lar_iqa,piqe", "--pipeline", "tiny", "--json")
    done = run(*asked)
    assert done.exit_code == 1
    assert done.stderr.count("not of the toy world") == 1
    rows = {Path(row["path"]).stem: row for row in json.loads(done.stdout)}
    assert "lar_iqa" in rows["scene0"]
    assert "lar_iqa" not in rows["other0"]
    assert "piqe" in rows["other0"]
    assert "Not a picture of the toy world" in rows["other0"]["note"]
    forced = run(*asked, "--force")
    assert forced.exit_code == 0
    rows = {Path(row["path"]).stem: row for row in json.loads(forced.stdout)}
    assert "lar_iqa" in rows["other0"]
    assert [name for name, row in sorted(rows.items()) if row.get("forced")] == ["other0", "other1", "other2"]


def test_evaluate_leaves_strangers_out_and_force_marks_the_headline(mixed, tmp_path):
    out = tmp_path / "out"
    asked = ("evaluate", mixed, mixed, "-o", out, "--metrics", "lar_iqa", "--weights", "lar_iqa=tiny")
    done = run(*asked)
    assert done.stderr.count("not of the toy world") == 1
    assert "Means over 2 images" in done.stdout
    forced = run(*asked, "--force")
    assert "(forced)." in forced.stdout
    assert "Means over 5 images" in forced.stdout
    assert "(forced)" in (out / "report.html").read_text()
    assert "3 of 5 pictures" in json.loads((out / "summary.json").read_text())["forced"]
