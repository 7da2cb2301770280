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

from grefine.scorers.clip import load_clip
from grefine.scorers.clipscore import CLIPScore
from grefine.scorers.pickscore import PickScore

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
    metrics = "clipscore,pickscore,hpsv2,clipiqa,imagereward"
    command = [sys.executable, "-c", NARROW, home / "sizes", "score", home / "a.png", "--metrics", metrics]
    done = run([*command, "--prompt", PROMPT, "-o", home / "scores.csv"], environment | {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    row = next(csv.DictReader((home / "scores.csv").open()))
    picture = [Image.open(home / "a.png")]
    for judge, name in ((CLIPScore, "clipscore"), (PickScore, "pickscore")):
        clip = load_clip(home / "cache" / name, "cpu")
        assert float(row[name]) == pytest.approx(judge(clip)(picture, [PROMPT])[0][name], abs=1e-4)
    assert all(torch.isfinite(torch.tensor(float(row[name]))) for name in metrics.split(","))


def test_one_that_lost_a_file_names_it(machine):
    home, environment = machine
    assert run([*GREFINE, "fetch", "clipscore"], environment).returncode == 0
    (home / "cache" / "clipscore" / "pytorch_model.bin").unlink()
    command = [*GREFINE, "score", home / "a.png", "--metrics", "clipscore", "--prompt", PROMPT]
    done = run(command, environment)
    assert done.returncode == 2
    assert "'pytorch_model.bin' of clipscore is not on this machine: run `grefine fetch clipscore`" in done.stderr
