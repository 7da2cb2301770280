"""The saved format is frozen: module paths of our components, and the names of a pipeline's parts and settings."""

from __future__ import annotations

import inspect
import json
from importlib import import_module

import pytest

from grefine.resources import bundled, pipeline_names

OURS = {
    "clipiqa": "transformers.CLIPModel",
    "domain": "grefine.models.domain.DomainNet",
    "finisher": "grefine.models.finisher.Finisher",
    "clip": "grefine.models.clip_surgery.ClipSurgery",
    "pq_prompts": "grefine.models.pq_prompts.PQPrompts",
    "reward": "grefine.models.reward.RewardModel",
    "moe_agiqa": "grefine.models.moe_agiqa.MoEAGIQA",
    "mdiqa": "grefine.models.mdiqa.MDIQA",
    "lar_iqa": "grefine.models.lar_iqa.LARIQA",
}
THEIRS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler", "clip_tokenizer")
SETTINGS = ("force_zeros_for_empty_prompt", "requires_aesthetics_score", "working_size", "calibration", "world")


@pytest.mark.parametrize("path", OURS.values())
def test_our_components_stay_where_saved_pipelines_look_for_them(path):
    module, name = path.rsplit(".", 1)
    assert inspect.isclass(getattr(import_module(module), name))


def test_parts_and_settings_keep_their_names():
    from grefine.pipeline import GRefinePipeline

    parameters = inspect.signature(GRefinePipeline.__init__).parameters
    expected = {"self", *THEIRS, *OURS, "controlnet", *SETTINGS, "refine_defaults", "unet_traits", "painter"}
    assert set(parameters) == expected
    assert all(p.annotation is not inspect.Parameter.empty for name, p in parameters.items() if name != "self")
    assert set(GRefinePipeline._optional_components) == {
        "controlnet",
        "reward",
        "moe_agiqa",
        "mdiqa",
        "lar_iqa",
        "clipiqa",
        "domain",
        "finisher",
    }


@pytest.mark.parametrize("name", pipeline_names())
def test_bundled_pipelines_name_modules_that_exist(name):
    index = json.loads((bundled("pipelines") / name / "model_index.json").read_text())
    assert index["_class_name"] == "GRefinePipeline"
    for part, entry in index.items():
        if isinstance(entry, list) and len(entry) == 2 and entry[0]:
            assert hasattr(import_module(entry[0]), entry[1]), part
    for part, path in OURS.items():
        if index.get(part, [None])[0]:
            assert ".".join(index[part]) == path
