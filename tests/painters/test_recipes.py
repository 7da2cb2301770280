"""Every recipe beside sdxl from its fetch to a repaired picture: one hub on this machine, the published layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from hub import BERT, CLIP_B32, REWARD, Hub, write_bert, write_clip, write_maps, write_recipes, write_reward
from published import PUBLISHED, write_painter

from benchmarks.toy_painters import build
from grefine import GRefinePipeline
from grefine.errors import ConfigError, WeightsMissing
from grefine.indicators.recipe import PAINTER

diffusers.utils.logging.set_verbosity_error()
SIDE = 96
MASK = np.zeros((SIDE, SIDE), bool)
MASK[32:64, 32:64] = True
ASKED = ("sd3.5", "flux-fill")
"""Recipes whose terms are asked for."""
LONG = ("sd3.5", "qwen-image", "flux2-klein")
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in PUBLISHED]


class Machine:
    """A machine with nothing on it and a network that ends at the hub."""

    def __init__(self, home: Path) -> None:
        self.home, self.hub = home, Hub(home / "repositories")
        self.own = {"GREFINE_CACHE": str(home / "cache")}
        self.own["GREFINE_RECIPES"] = str(write_recipes(home / "recipes", self.hub.root, self.hub.address))

    def fetch(self, *arguments: str) -> tuple[int, str]:
        network = {"HF_ENDPOINT": self.hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(self.home / "hub")}
        command = [sys.executable, "-m", "grefine", "fetch", *arguments]
        done = subprocess.run(command, env=os.environ | self.own | network, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def has(self, name: str) -> None:
        if not (self.home / "cache" / name).is_dir():
            assert self.fetch(name)[0] == 0


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    home = tmp_path_factory.mktemp("machine")
    write_maps(home / "repositories")
    write_reward(home / "repositories" / REWARD)
    write_bert(home / "repositories" / BERT)
    write_clip(home / "repositories" / CLIP_B32)
    for name in PUBLISHED:
        write_painter(home / "repositories", name)
    found = Machine(home)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.own.items():
            patch.setenv(name, value)
        yield found
    found.hub.close()


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def call(pipe, **changes):
    pipe.set_progress_bar_config(disable=True)
    given = {"prompt": "a red ball", "image": picture(), "mask_image": Image.fromarray(MASK), "preserve": "exact"}
    given |= {"num_inference_steps": 2, "guard": False, "generator": torch.Generator().manual_seed(0)}
    return pipe(**given | {"config": {"max_upscale": 1.0}} | changes)  # small crops: this is no test of speed


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_fetched_loads_and_paints(machine, name):
    repository, _, unasked = PUBLISHED[name]
    with pytest.raises(WeightsMissing, match=f"run `grefine fetch {name}` once with a network"):
        GRefinePipeline.from_pretrained(name)
    if name in ASKED:
        code, said = machine.fetch(name)
        assert code == 2
        assert f"grefine: '{name}' comes under: " in said
        assert "Say --accept-terms if you may use it." in said
        assert not any(repository in asked for asked in machine.hub.asked), "nothing was asked for without a yes"
        code, said = machine.fetch(name, "--accept-terms")
        assert code == 0, said
    code, said = machine.fetch(name)  # terms hold once per machine, and what is there is not fetched again
    assert code == 0, said
    home, published = machine.home / "cache" / name, machine.hub.root / repository
    brought = {file.relative_to(home).as_posix() for file in home.rglob("*") if file.is_file()}
    there = {file.relative_to(published).as_posix() for file in published.rglob("*") if file.is_file()}
    assert brought == there - {"README.md", *unasked}

    pipe = GRefinePipeline.from_pretrained(name)
    assert pipe.unet is None
    assert {judge.spec.name for judge in pipe.judges()} == {"imagereward", "clipiqa"}, "the judges come along"
    stages: list[str] = []
    out = call(pipe, restorer="inpaint", callback_on_step_end=lambda p, i, t, k: stages.append(k["stage"]) or {})
    assert set(stages) == {"repaint", "restore"}
    (result,) = out.results
    assert result.painter == pipe.painter.family.classes[0]
    assert not any("left as it was" in warning for warning in result.warnings)
    moved = np.abs(np.asarray(out.images[0]).astype(int) - np.asarray(picture())).max(-1)
    assert (moved[~MASK] == 0).all()
    assert moved[MASK].mean() > 10
    if name == "sd15":
        scores = call(pipe, restorer="none", guard=True).results[0].decision.candidates
        assert {"imagereward", "clipiqa"} <= scores["repainted"].keys()


def test_a_recipe_is_saved_by_its_name(machine, tmp_path):
    machine.has("z-image")
    pipe = GRefinePipeline.from_pretrained("z-image", dtype=torch.bfloat16)
    assert pipe.painter.pipe.transformer.dtype == torch.bfloat16
    assert pipe.clip.dtype == torch.float32
    pipe.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / PAINTER).exists(), "what it is made of, not its weights"
    assert json.loads((tmp_path / "saved" / "model_index.json").read_text())["painter"]["from"] == "z-image"
    assert GRefinePipeline.from_pretrained(tmp_path / "saved").painter.name == "ZImageInpaintPipeline"
    pipe.save_pretrained(tmp_path / "whole", save_painter=True)
    assert (tmp_path / "whole" / PAINTER / "model_index.json").is_file()


@pytest.mark.parametrize(
    ("package", "settings"),
    [
        ("optimum-quanto", {"quant_mapping": {"transformer": diffusers.QuantoConfig(weights_dtype="int8")}}),
        ("bitsandbytes", {"quant_backend": "bitsandbytes_4bit", "quant_kwargs": {"load_in_4bit": True}}),
    ],
)
def test_quantised_loading_reaches_the_painter_and_says_what_is_missing(machine, package, settings):
    if find_spec(package.partition("-")[0]):
        pytest.skip(f"{package} is installed")
    machine.has("z-image")
    with pytest.raises(ConfigError, match=f"z-image/painter' cannot be loaded as .*{package}") as caught:
        GRefinePipeline.from_pretrained(
            "z-image", quantization_config=diffusers.PipelineQuantizationConfig(**settings)
        )
    assert "\n" not in str(caught.value)


def test_the_published_maps_lend_their_judges(machine):
    machine.has("z-image")
    made = GRefinePipeline.from_pipe(build("flux")[0], maps="clip")
    assert made.reward is not None
    assert made.controlnet is None
