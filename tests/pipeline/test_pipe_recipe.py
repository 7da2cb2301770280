"""The sdxl recipe: a sentence without its weights, a whole pipeline once they are fetched (tiny ones stand in)."""

from __future__ import annotations

import shutil

import pytest
import torch
from components import components, controlnet

from grefine.errors import WeightsMissing
from grefine.pipeline import GRefinePipeline
from grefine.refine import recipe
from grefine.refine.recipe import assembled_folder, read_recipe
from grefine.resources import bundled, fetch_recipe, pipeline_names

SDXL = bundled("pipelines") / "sdxl"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path))
    return tmp_path


def place_weights(cache, with_control=True):
    """Lay tiny weights where `grefine fetch` lays the real ones, in the same form."""
    parts = components()
    for name in ("unet", "text_encoder", "text_encoder_2"):
        parts[name].save_pretrained(cache / "sdxl" / "base" / name, variant="fp16")
    for name in ("tokenizer", "tokenizer_2", "scheduler"):
        parts[name].save_pretrained(cache / "sdxl" / "base" / name)
    parts["vae"].save_pretrained(cache / "sdxl" / "vae")
    if with_control:
        controlnet().save_pretrained(cache / "sdxl" / "controlnet")
    return parts


@pytest.fixture
def built(monkeypatch):
    """The parts that grefine converts itself are tested with the maps; here tiny ones stand in for a 600 MB CLIP."""
    parts = components()
    monkeypatch.setattr(recipe, "_is_fetched", lambda part: part.folder is None or _there(part))

    def convert(name, part, target):
        parts[name].save_pretrained(target)

    monkeypatch.setattr(recipe, "_convert", convert)
    return parts


def _there(part):
    from grefine.resources import fetched_folder

    return (fetched_folder(part.fetch) / part.folder).is_dir()


def test_without_weights_one_sentence_names_the_commands(cache):
    with pytest.raises(WeightsMissing) as caught:
        GRefinePipeline.from_pretrained("sdxl")
    for command in ("grefine fetch sdxl", "grefine fetch clip", "grefine fetch pq-prompts"):
        assert command in str(caught.value)
    assert "about 10 GB" in str(caught.value)


def test_the_recipe_names_real_components_and_known_fetches():
    found = read_recipe(SDXL)
    assert "sdxl" in pipeline_names()
    required = {name for name, part in components().items() if part is not None}
    assert set(found.parts) == required | {"controlnet"}
    for part in found.parts.values():
        assert fetch_recipe(part.fetch).licence


def test_fetched_parts_load_with_the_arguments_that_diffusers_users_pass(cache, built):
    parts = place_weights(cache)
    pipe = GRefinePipeline.from_pretrained("sdxl", dtype=torch.bfloat16, local_files_only=True)
    assert pipe.unet.dtype == torch.bfloat16
    assert pipe.controlnet is not None
    assert pipe.config.refine_defaults["restorer"] == "controlnet-tile"
    wanted = parts["unet"].state_dict()["conv_in.weight"].to(torch.bfloat16)
    assert torch.equal(pipe.unet.state_dict()["conv_in.weight"], wanted)


def test_without_the_optional_controlnet_stage_2_falls_back_and_says_so(cache, built):
    place_weights(cache, with_control=False)
    pipe = GRefinePipeline.from_pretrained("sdxl")
    assert pipe.controlnet is None
    assert pipe.config.refine_defaults["restorer"] == "inpaint"


def test_a_calibration_of_ones_own_survives(cache, built):
    import json

    place_weights(cache)
    home = assembled_folder(SDXL)
    index = json.loads((home / "model_index.json").read_text())
    (home / "model_index.json").write_text(json.dumps(index | {"calibration": {"p_gate": 0.3}}))
    assert GRefinePipeline.from_pretrained("sdxl").config.calibration == {"p_gate": 0.3}


def test_a_half_fetched_recipe_names_what_is_left(cache):
    place_weights(cache)
    shutil.rmtree(cache / "sdxl" / "base" / "unet")
    with pytest.raises(WeightsMissing, match="grefine fetch sdxl"):
        GRefinePipeline.from_pretrained("sdxl")
