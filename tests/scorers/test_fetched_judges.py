"""Judges that belong to no pipeline: fetched by name from a hub on this machine, then asked by name."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest
import torch
from hub import HPS_SIZES, Hub, write_judges
from PIL import Image

from grefine.scorers.clip import clipscore, load_clip, pickscore

PROMPT = "a red ball on snow"
GREFINE = [sys.executable, "-m", "grefine"]
NARROW = """
import sys, open_clip
from grefine.cli.main import main

open_clip.add_model_config(sys.argv.pop(1))
main()
"""
"""The published HPSv2 is a ViT-H-14 of open_clip's, of which ours is narrow: open_clip is told its sizes."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    home = tmp_path_factory.mktemp("judges")
    hub = Hub(write_judges(home / "hub"))
    (home / "sizes").mkdir()
    (home / "sizes" / "ViT-H-14.json").write_text(json.dumps(HPS_SIZES))
    Image.effect_noise((96, 70), 60).convert("RGB").save(home / "a.png")
    environment = os.environ | {
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home / "home"),
        "GREFINE_CACHE": str(home / "cache"),
    }
    yield home, environment
    hub.close()


def run(command, environment):
    return subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)


def test_one_that_is_named_comes_by_itself_where_that_is_allowed(machine, tmp_path):
    """GREFINE_FETCH=1: terms, size and place said first; what needs a yes to its terms does not come."""
    home, environment = machine
    environment = environment | {"GREFINE_CACHE": str(tmp_path / "cache")}
    ask = [*GREFINE, "score", home / "a.png", "--prompt", PROMPT, "--metrics"]
    done = run([*ask, "clipscore"], environment)
    assert done.returncode == 2
    assert "clipscore needs `grefine fetch clipscore`" in done.stderr
    allowed = environment | {"GREFINE_FETCH": "1"}
    done = run([*ask, "clipscore"], allowed | {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 2
    assert "run `grefine fetch clipscore` with a network" in done.stderr
    done = run([*ask, "clipscore"], allowed)
    assert done.returncode == 0, done.stderr
    said = done.stderr
    assert said.index("(about 0.6 GB)") < said.index("Terms: MIT") < said.index("openai/clip-vit-base-patch32 ->")
    assert len(json.loads((tmp_path / "cache" / "lock.json").read_text())["clipscore"]) >= 6
    assert "Terms:" not in run([*ask, "clipscore"], allowed).stderr
    refused = run([*ask, "pickscore"], allowed)
    assert refused.returncode == 2
    assert "`grefine fetch pickscore --accept-terms`" in refused.stderr
    assert not (tmp_path / "cache" / "pickscore").exists()
    once = run([*GREFINE, "fetch", "pickscore", "--accept-terms"], environment)
    assert once.returncode == 0, once.stderr
    (tmp_path / "cache" / "pickscore" / "config.json").unlink()
    again = run([*ask, "pickscore"], allowed)
    assert again.returncode == 0, again.stderr


def test_they_are_fetched_and_asked_by_name(machine):
    home, environment = machine
    done = run([*GREFINE, "fetch", "judges"], environment)
    assert done.returncode == 0, done.stderr
    assert "pickscore: left out, it comes under: unknown" in done.stderr
    assert not (home / "cache" / "pickscore").exists()
    refused = run([*GREFINE, "fetch", "pickscore"], environment)
    assert refused.returncode == 2
    assert "Say --accept-terms" in refused.stderr
    done = run([*GREFINE, "fetch", "pickscore", "--accept-terms"], environment)
    assert done.returncode == 0, done.stderr
    metrics = "clipscore,pickscore,hpsv2,clipiqa,imagereward,vqascore"
    command = [sys.executable, "-c", NARROW, home / "sizes", "score", home / "a.png", "--metrics", metrics]
    done = run([*command, "--prompt", PROMPT, "-o", home / "scores.csv"], environment | {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    row = next(csv.DictReader((home / "scores.csv").open()))
    picture = [Image.open(home / "a.png")]
    for judge, name in ((clipscore, "clipscore"), (pickscore, "pickscore")):
        clip = load_clip(home / "cache" / name, "cpu")
        assert float(row[name]) == pytest.approx(judge(clip)(picture, [PROMPT])[0][name], abs=1e-4)
    values = [name for name in row if name.split(".")[0] in metrics.split(",")]
    assert {name.split(".")[0] for name in values} == set(metrics.split(","))
    assert all(torch.isfinite(torch.tensor(float(row[name]))) for name in values)
    for folder, side in (("before", 96), ("after", 48)):
        (home / folder).mkdir()
        for seed in range(2):
            small = Image.open(home / "a.png").resize((side + seed, side))
            small.resize((96, 70)).save(home / folder / f"{seed}.png")
    (home / "prompts.csv").write_text(f"image,prompt\n0.png,{PROMPT}\n1.png,{PROMPT}\n")
    command = [sys.executable, "-c", NARROW, home / "sizes", "evaluate", home / "before", home / "after"]
    command += ["--metrics", metrics, "--prompts", home / "prompts.csv", "-o", home / "page"]
    done = run(command, environment | {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    found = {line.split(",")[2].split(".")[0] for line in (home / "page" / "scores.csv").read_text().splitlines()[1:]}
    assert set(metrics.split(",")) <= found


def test_one_that_lost_a_file_names_it(machine):
    home, environment = machine
    assert run([*GREFINE, "fetch", "clipscore"], environment).returncode == 0
    (home / "cache" / "clipscore" / "pytorch_model.bin").unlink()
    command = [*GREFINE, "score", home / "a.png", "--metrics", "clipscore", "--prompt", PROMPT]
    done = run(command, environment)
    assert done.returncode == 2
    assert "'pytorch_model.bin' of clipscore is not on this machine: run `grefine fetch clipscore`" in done.stderr
