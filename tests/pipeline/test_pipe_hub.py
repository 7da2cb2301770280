"""Real weights from fetch to a guarded result: one hub on this machine, public commands, the published layout."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLInpaintPipeline
from hub import SAID, Hub, write_pictures, write_recipes, write_repositories
from ldm_layout import save_ldm
from PIL import Image
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ConfigError
from grefine.pipeline import GRefinePipeline

FEW = {"total_steps": 2}


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A machine after `grefine fetch sdxl`, without a network from then on."""
    home = tmp_path_factory.mktemp("machine")
    hub = Hub(write_repositories(home / "repositories"))
    own = {
        "GREFINE_CACHE": str(home / "cache"),
        "GREFINE_RECIPES": str(write_recipes(home / "recipes", hub.root, hub.address)),
    }
    network = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home / "hub")}
    command = [sys.executable, "-m", "grefine", "fetch", "sdxl"]
    done = subprocess.run(command, env=os.environ | own | network, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    hub.close()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        yield home


@pytest.fixture(scope="module")
def pictures(machine):
    return write_pictures(machine / "pictures", 36, 128, machine / "prompts.csv")  # as many as calibrating asks for


@pytest.fixture(scope="module")
def measured(machine, pictures):
    """What `grefine calibrate` prints; it is the first step, and nothing has loaded the pipeline yet."""
    done = run("calibrate", "--images", pictures, "--pipeline", "sdxl", "--prompts", machine / "prompts.csv")
    return json.loads(done.stdout)["calibration"]


@pytest.fixture(scope="module")
def pipe(measured):
    loaded = GRefinePipeline.from_pretrained("sdxl")
    loaded.set_progress_bar_config(disable=True)
    return loaded


def run(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, (done.stderr, done.exception)
    return done


def refined(pipe, pictures):
    picture = Image.open(pictures / "0.png")
    mask = Image.new("L", picture.size)
    mask.paste(255, (32, 32, 96, 96))
    return pipe(SAID[0], picture, mask, config=FEW, generator=torch.Generator().manual_seed(0)).results[0]


def test_calibrating_is_the_first_step_after_a_fetch(machine, pictures, measured):
    assert measured["made_from"]["images"] == 36
    done = run(
        "map", pictures, "-o", machine / "maps", "--pipeline", "sdxl", "--prompts", machine / "prompts.csv", "--json"
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 36
    assert all(line["calibrated"] for line in lines)
    kept = GRefinePipeline.from_pretrained("sdxl").config.calibration
    assert kept["made_from"], "loading keeps the calibration"


def test_the_guard_is_independent_out_of_the_box(pipe, pictures):
    assert [judge.spec.name for judge in pipe.judges()] == ["imagereward", "clipiqa"]
    result = refined(pipe, pictures)
    assert result.decision.guarded
    assert {"imagereward", "clipiqa"} <= result.decision.candidates["repainted"].keys()
    assert {"both", "restored"} & result.decision.candidates.keys(), "the ControlNet restores"


def test_half_precision_leaves_the_maps_alone(machine, pipe, pictures):
    half = GRefinePipeline.from_pretrained("sdxl", dtype=torch.bfloat16)
    dtypes = {name: part.dtype for name, part in half.components.items() if isinstance(part, torch.nn.Module)}
    assert dtypes.pop("clip") == dtypes.pop("pq_prompts") == torch.float32
    assert set(dtypes.values()) == {torch.bfloat16}
    picture = Image.open(pictures / "0.png")
    maps = [p(SAID[0], picture, plan_only=True).results[0].quality.values for p in (half, pipe)]
    assert np.array_equal(*maps)
    named = GRefinePipeline.from_pretrained("sdxl", dtype={"default": torch.float32, "clip": torch.bfloat16})
    assert named.clip.dtype == torch.bfloat16


def test_without_its_calibration_no_mask_is_cut(pipe, pictures):
    measured = pipe.config.calibration
    pipe.register_to_config(calibration=None)
    try:
        with pytest.raises(ConfigError, match=r"grefine calibrate.*mask_image=.*force=True"):
            pipe(SAID[0], Image.open(pictures / "0.png"))
        assert refined(pipe, pictures).decision.guarded, "a mask of one's own needs no thresholds"
    finally:
        pipe.register_to_config(calibration=measured)


def test_explain(pipe, pictures):
    said = pipe.explain(SAID[0], Image.open(pictures / "0.png"))
    assert "quality p" in said
    assert "Memory" in said


def test_a_folder_is_refined(machine, pictures, measured):
    out = machine / "refined"
    settings = [argument for name, value in FEW.items() for argument in ("--set", f"{name}={value}")]
    two = (pictures / "0.png", pictures / "1.png")
    run("refine", *two, "-o", out, "--pipeline", "sdxl", "--prompts", machine / "prompts.csv", *settings)
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert len(rows) == 2
    assert all(row["state"] != "failed" for row in rows), rows


def test_a_loaded_pipeline_gets_what_it_lacks(machine, pipe, pictures):
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    loaded = StableDiffusionXLInpaintPipeline(**{name: getattr(pipe, name) for name in names})
    made = GRefinePipeline.from_pipe(loaded, maps="sdxl")
    made.set_progress_bar_config(disable=True)
    assert made.unet is loaded.unet
    assert made.controlnet is not None
    assert dict(made.config.refine_defaults) == dict(pipe.config.refine_defaults)
    assert [judge.spec.name for judge in made.judges()] == ["imagereward", "clipiqa"]
    assert refined(made, pictures).after.values == pytest.approx(refined(pipe, pictures).after.values, abs=1e-4)


def test_a_single_file_gets_what_it_lacks(machine, pipe, pictures):
    names = ("unet", "vae", "text_encoder", "text_encoder_2")
    file = save_ldm(machine / "checkpoint.safetensors", {name: getattr(pipe, name) for name in names})
    made = GRefinePipeline.from_single_file(file, local_files_only=True)
    made.set_progress_bar_config(disable=True)
    assert made.controlnet is not None
    assert made.vae.config.force_upcast, "the folder's VAE is safe in half precision, the file's own is not"
    assert refined(made, pictures).after.values == pytest.approx(refined(pipe, pictures).after.values, abs=1e-4)


def test_a_plain_pipeline_is_told_how_to_load_it(machine, pipe):
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    plain = StableDiffusionXLInpaintPipeline(**{name: getattr(pipe, name) for name in names})
    plain.save_pretrained(machine / "plain")
    with pytest.raises(ConfigError, match=r"has no maps.*from_pipe"):
        GRefinePipeline.from_pretrained(machine / "plain")
    alone = GRefinePipeline.from_pretrained(
        machine / "plain", clip=pipe.clip, clip_tokenizer=pipe.clip_tokenizer, pq_prompts=pipe.pq_prompts
    )
    assert alone.clip is pipe.clip


def test_saved_and_loaded_again_with_its_judges(machine, pipe):
    pipe.save_pretrained(machine / "saved", variant="fp16")
    again = GRefinePipeline.from_pretrained(machine / "saved", variant="fp16")
    assert [judge.spec.name for judge in again.judges()] == ["imagereward", "clipiqa"]
