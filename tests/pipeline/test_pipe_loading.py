"""Every door of the pipeline: folders, names, other pipelines, single files, remote code; and what comes back."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from components import clip, components, controlnet, pipeline, save_tiny, tokenizer, unet
from diffusers import DiffusionPipeline, StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline
from PIL import Image
from transformers import CLIPTextModel

from grefine.errors import ConfigError, GRefineError, WeightsCorrupt, WeightsMissing
from grefine.models.domain import DomainNet
from grefine.models.finisher import Finisher
from grefine.models.pq_prompts import PQPrompts
from grefine.pipeline import GRefinePipeline

SDXL = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
FROZEN = {
    *SDXL,
    *("clip", "clip_tokenizer", "pq_prompts", "controlnet", "reward", "moe_agiqa", "mdiqa", "lar_iqa", "clipiqa"),
    *("domain", "finisher"),
}
SETTINGS = {"calibration": {"p_gate": 0.4}, "world": {"name": "toy"}, "working_size": 64}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipe")
    pipe = pipeline(
        controlnet=controlnet(),
        domain=DomainNet(threshold=0.5),
        finisher=Finisher(width=8, coarse=8),
        **SETTINGS,
        refine_defaults={"guidance_scale": 2.0},
    )
    pipe.save_pretrained(folder)
    return pipe, folder


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_component_names_are_frozen():
    assert set(pipeline().components) == FROZEN


def test_every_component_and_setting_makes_the_round_trip(saved):
    pipe, folder = saved
    loaded = GRefinePipeline.from_pretrained(folder)
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            assert same(part, getattr(loaded, name)), name
        elif part is None:
            assert getattr(loaded, name) is None
        else:
            assert type(part) is type(getattr(loaded, name))
    for name, value in {**SETTINGS, "refine_defaults": {"guidance_scale": 2.0}}.items():
        assert loaded.config[name] == value
    assert loaded.domain.config["threshold"] == 0.5
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "GRefinePipeline"
    assert index["clip"] == ["grefine.models.clip_surgery", "ClipSurgery"]
    assert index["pq_prompts"] == ["grefine.models.pq_prompts", "PQPrompts"]


def test_dtypes_go_where_they_are_sent(saved):
    loaded = GRefinePipeline.from_pretrained(saved[1], dtype={"unet": torch.bfloat16, "default": torch.float32})
    assert loaded.unet.dtype == torch.bfloat16
    assert loaded.vae.dtype == torch.float32


def test_weights_kept_in_half_precision_load_in_one_precision(tmp_path):
    pipeline().to(torch.float16).save_pretrained(tmp_path)
    loaded = GRefinePipeline.from_pretrained(tmp_path)
    assert {part.dtype for part in loaded.components.values() if isinstance(part, torch.nn.Module)} == {torch.float32}


def test_custom_pipeline_asks_for_consent(saved, tmp_path):
    home = tmp_path / "shared"
    shutil.copytree(saved[1], home)
    (home / "pipeline.py").write_text("from grefine import GRefinePipeline  # noqa: F401\n")
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(home, custom_pipeline=str(home))
    loaded = DiffusionPipeline.from_pretrained(home, custom_pipeline=str(home), trust_remote_code=True)
    assert type(loaded).__name__ == "GRefinePipeline"
    loaded.save_pretrained(tmp_path / "again")
    text = (tmp_path / "again" / "model_index.json").read_text()
    assert "diffusers_modules" not in text
    assert type(GRefinePipeline.from_pretrained(tmp_path / "again")) is GRefinePipeline


@pytest.mark.parametrize("kind", [StableDiffusionXLPipeline, StableDiffusionXLInpaintPipeline])
def test_from_pipe_shares_parts_and_changes_no_dtype(saved, kind):
    base = kind(**{n: v for n, v in components(channels=4).items() if n in SDXL}, add_watermarker=False)
    base.unet.to(torch.bfloat16)
    pipe = GRefinePipeline.from_pipe(base, maps=saved[1])
    assert pipe.unet is base.unet
    assert base.unet.dtype == torch.bfloat16
    assert base.vae.dtype == torch.float32
    assert same(pipe.clip, saved[0].clip)
    assert pipe.config.calibration["p_gate"] == 0.4
    assert pipe.config.world["name"] == "toy"
    assert same(pipe.domain, saved[0].domain)


def test_from_pipe_says_what_is_missing(saved):
    base = StableDiffusionXLPipeline(**{n: v for n, v in components(channels=4).items() if n in SDXL})
    with pytest.raises(ConfigError, match="clip, clip_tokenizer, pq_prompts.*maps='tiny'"):
        GRefinePipeline.from_pipe(base)
    with pytest.raises(ConfigError, match="unknown argument 'unett'; did you mean 'unet'"):
        GRefinePipeline.from_pipe(base, unett=None)


def test_from_pipe_of_our_own_keeps_settings(saved):
    again = GRefinePipeline.from_pipe(saved[0])
    assert again.config.world == SETTINGS["world"]
    assert again.controlnet is saved[0].controlnet


def test_unknown_names_and_empty_folders(tmp_path):
    with pytest.raises(WeightsMissing, match="No pipeline 'tinny'"):
        GRefinePipeline.from_pretrained("tinny")
    with pytest.raises(WeightsMissing, match="holds no model_index.json"):
        GRefinePipeline.from_pretrained(tmp_path)


def test_a_unet_of_another_family_is_refused():
    old = unet(4)
    old.register_to_config(addition_embed_type=None)
    with pytest.raises(ConfigError, match="Stable Diffusion 1 or 2"):
        pipeline(unet=old)
    odd = unet(4)
    odd.register_to_config(in_channels=8)
    with pytest.raises(ConfigError, match="input channels: 8 where 4 or 9"):
        pipeline(unet=odd)


def test_annotations_let_from_pipe_check_classes():
    types = GRefinePipeline._get_signature_types()
    assert type(clip()) in types["clip"]
    assert CLIPTextModel in types["text_encoder"]
    assert PQPrompts in types["pq_prompts"]
    assert type(tokenizer()) in types["clip_tokenizer"]


def test_model_offload_runs_and_gives_the_same(saved):
    from test_pipe_exactness import bad_place, picture

    def run(pipe):
        generator = torch.Generator().manual_seed(0)
        return pipe(
            image=picture(),
            quality_map=bad_place,
            guard=False,
            num_inference_steps=2,
            generator=generator,
            output_type="pt",
        ).images

    pipe = pipeline()
    plain = run(pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    assert torch.allclose(run(pipe), plain, atol=1e-5)
    assert not hasattr(pipe.clip, "_hf_hook"), "walked through from outside, so never moved away"
    assert hasattr(pipe.unet, "_hf_hook")


def test_a_damaged_folder_is_one_sentence(tmp_path):
    """A cut weights file names the folder and what to do, and is not a traceback from inside a loader."""
    from grefine.resources import pipeline_folder

    folder = tmp_path / "copy"
    shutil.copytree(pipeline_folder("tiny"), folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsCorrupt, match="cannot be loaded"):
        GRefinePipeline.from_pretrained(folder)


@pytest.mark.parametrize("part", ["vae", "tokenizer", "clip_tokenizer", "pq_prompts"])
def test_a_folder_without_a_part_names_it(saved, tmp_path, part):
    pipe, whole = saved
    folder = Path(shutil.copytree(whole, tmp_path / "half"))
    shutil.rmtree(folder / part)
    with pytest.raises(WeightsCorrupt, match=f"lacks its part '{part}': copy it there"):
        GRefinePipeline.from_pretrained(folder)
    given = {part: pipe.components[part]}
    assert GRefinePipeline.from_pretrained(folder, **given).components[part] is given[part]


class Owned:
    def __reduce__(self):
        return os.system, ("touch owned",)


def edit(path, change):
    """Change a JSON file: its keys, or all of it."""

    def run(folder):
        file = folder / path
        found = json.loads(file.read_text())
        file.write_text(json.dumps(found | change if isinstance(change, dict) else change))

    return run


def put(path, data):
    """Write these bytes in the place of a file."""

    def run(folder):
        (folder / path).write_bytes(data)

    return run


def gone(path):
    return lambda folder: (folder / path).unlink()


def pickled(folder):
    for weights in (folder / "vae").glob("*.safetensors"):
        weights.unlink()
    put("vae/diffusion_pytorch_model.bin", pickle.dumps(Owned()))(folder)


def a_folder(folder):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


INDEX, UNET, WEIGHTS = "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
HOSTILE = {
    **{f"index {name}": edit(INDEX, what) for name, what in {"list": [1, 2], "text": "x", "number": 7}.items()},
    **{
        f"index {name}": put(INDEX, data)
        for name, data in {"empty": b"", "bytes": b"\xff\xfe{", "deep": b"[" * 10**5}.items()
    },
    **{
        f"unet is {what!r:.24}": edit(INDEX, {"unet": what})
        for what in (
            ["os", "system"],
            ["builtins", "eval"],
            ["diffusers", "nothing"],
            ["../x", "y"],
            [None, None],
            ["a"],
            "x",
            7,
            ["diffusers", "AutoencoderKL"],
            ["transformers", "AutoModel"],
        )
    },
    "a part of its own": edit(INDEX, {"evil": ["os", "system"]}),
    **{
        f"{name} is {value!r:.24}": edit(INDEX, {name: value})
        for name, value in (
            ("_class_name", 7),
            ("working_size", -1),
            ("working_size", "wide"),
            ("calibration", 7),
            ("calibration", {"p_gate": "x"}),
            ("calibration", {"nothing": 1}),
            ("refine_defaults", [1]),
            ("refine_defaults", {"nothing": 1}),
            ("world", 3),
            ("world", {"name": 3}),
            ("unet_traits", [1]),
            ("unet_traits", {"steps": "x"}),
        )
    },
    **{
        f"config {name}": edit(UNET, what)
        for name, what in {
            "list": [1],
            "text": "x",
            "many": {"block_out_channels": "many"},
            "negative": {"block_out_channels": [-8, -8]},
            "class": {"down_block_types": ["os.system"] * 2},
            "other": {"block_out_channels": [8, 8]},
        }.items()
    },
    "config empty": put(UNET, b""),
    "config gone": gone(UNET),
    **{
        f"weights {name}": put(WEIGHTS, data)
        for name, data in {
            "empty": b"",
            "text": b"no weights",
            "header": b"\xff" * 8 + b"{}",
            "nothing": b"\x02\0\0\0\0\0\0\0{}",
        }.items()
    },
    "weights gone": gone(WEIGHTS),
    "weights a folder": a_folder,
    "weights pickled": pickled,
    "scheduler text": edit("scheduler/scheduler_config.json", "x"),
    "scheduler gone": gone("scheduler/scheduler_config.json"),
    "tokenizer text": put("tokenizer/tokenizer_config.json", b"x"),
    "clip list": edit("clip/config.json", [1]),
    "prompts other": edit("pq_prompts/config.json", {"n_ctx": "x"}),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folders_are_one_short_sentence(whole, tmp_path, monkeypatch, name):
    """Whoever opens a stranger's folder is told in a sentence, at the latest by the first call; nothing of it runs."""
    folder = Path(shutil.copytree(whole, tmp_path / "theirs"))
    monkeypatch.chdir(tmp_path)
    HOSTILE[name](folder)
    with pytest.raises(GRefineError) as caught:
        GRefinePipeline.from_pretrained(str(folder))("a red ball", Image.new("RGB", (64, 64)))
    sentence = str(caught.value)
    assert len(sentence) < 600
    assert "\n" not in sentence
    assert "weights_only" not in sentence
    assert not (tmp_path / "owned").exists()
