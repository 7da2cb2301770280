"""Checkpoints kept in one file, written in the original layout and read by diffusers' own reader without a network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from components import components, pipeline, tokenizer
from diffusers import StableDiffusionXLImg2ImgPipeline
from ldm_layout import save_ldm, save_sd15, sdxl_encoders, sdxl_unet
from safetensors.torch import load_file, save_file
from test_pipe_exactness import bad_place, picture

from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing
from grefine.pipeline import GRefinePipeline
from grefine.resources import pipeline_folder

WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2")


def whole(channels):
    """Components of SDXL's own layout; no weight keeps its starting value, so that none can take another's place."""
    words = tokenizer()
    first, second = sdxl_encoders(len(words), 32)
    parts = components(unet=sdxl_unet(channels, 32, 32 + 48), text_encoder=first, text_encoder_2=second)
    generator = torch.Generator().manual_seed(channels)
    for name in WEIGHTED:
        for weight in parts[name].parameters():
            weight.data.add_(0.02 * torch.randn(weight.shape, generator=generator))
    return parts


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A 9- and a 4-channel checkpoint, what they were written from, and the folder that says how they are built."""
    home = tmp_path_factory.mktemp("files")
    parts = {channels: whole(channels) for channels in (9, 4)}
    for channels in parts:
        save_ldm(home / f"{channels}.safetensors", parts[channels])
    pipeline(**parts[9]).save_pretrained(home / "config")
    for weights in (home / "config").glob("*/*.safetensors"):
        if weights.parent.name in WEIGHTED:
            weights.unlink()
    return parts, home


def loaded(home, channels, **options):
    options = {"maps": home / "config", "config": home / "config", "local_files_only": True} | options
    pipe = GRefinePipeline.from_single_file(home / f"{channels}.safetensors", **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def refine(pipe):
    generator = torch.Generator().manual_seed(0)
    found = pipe(
        prompt="a red ball", image=picture(), quality_map=bad_place, guard=False, num_inference_steps=4,
        generator=generator, config={"use_aq": False},
    )  # fmt: skip
    return np.asarray(found.images[0]), found.results[0]


@pytest.mark.parametrize("channels", [9, 4])
def test_every_weight_of_a_real_file_arrives_and_refines_alike(files, channels):
    parts, home = files
    pipe = loaded(home, channels)
    for name in WEIGHTED:
        ours, theirs = getattr(pipe, name).state_dict(), parts[channels][name].state_dict()
        assert ours.keys() == theirs.keys(), name
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    assert pipe.unet.config.in_channels == channels
    refined, result = refine(pipe)
    expected, _ = refine(pipeline(**parts[channels]))
    assert result.decision.kept == "both"
    assert not np.array_equal(refined, np.asarray(picture()))
    assert np.array_equal(refined, expected)


def test_from_pretrained_takes_a_file_and_finds_how_it_is_built(files):
    _, home = files
    found = GRefinePipeline.from_pretrained(home / "9.safetensors", maps=home / "config", local_files_only=True)
    assert type(found) is GRefinePipeline
    assert found.unet.config.in_channels == 9


def test_half_precision_files_load_in_one_precision(files, tmp_path):
    parts, home = files
    state = {name: value.half() for name, value in load_file(home / "4.safetensors").items()}
    save_file(state, tmp_path / "half.safetensors")
    options = {"maps": home / "config", "config": home / "config", "local_files_only": True}
    pipe = GRefinePipeline.from_single_file(tmp_path / "half.safetensors", **options)
    assert {getattr(pipe, name).dtype for name in WEIGHTED} == {torch.float32}
    asked = GRefinePipeline.from_single_file(tmp_path / "half.safetensors", dtype=torch.bfloat16, **options)
    assert {getattr(asked, name).dtype for name in WEIGHTED} == {torch.bfloat16}
    assert torch.equal(pipe.unet.conv_in.weight, parts[4]["unet"].conv_in.weight.half().float())


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_folder_one_sentence_says_which_to_pass(files, offline, monkeypatch, tmp_path):
    """The tiny pipeline's widths are others than the file's, and no other folder is on this machine."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    if not offline:  # a network may be asked, and none is there
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises((WeightsMissing, ConfigError), match=r"Pass config=FOLDER, a local SDXL pipeline.*model_index"):
        GRefinePipeline.from_single_file(files[1] / "9.safetensors", maps="tiny", local_files_only=offline)


def test_asked_to_stay_local_the_network_is_never_tried(files, monkeypatch):
    """diffusers' reader goes to the Hub all the same when nothing local is found; ours must not."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    tried = []
    monkeypatch.setattr("socket.socket.connect", lambda self, address: tried.append(address))
    with pytest.raises(WeightsMissing, match="no network may be asked"):
        GRefinePipeline.from_single_file(files[1] / "9.safetensors", maps="tiny", local_files_only=True)
    with pytest.raises(ConfigError, match="describes no UNet of the widths"):
        GRefinePipeline.from_single_file(files[1] / "4.safetensors", maps="tiny", config="owner/name")
    assert not tried


def test_a_folder_of_another_model_is_named(files, tmp_path):
    home = files[1]
    with pytest.raises(ConfigError, match="no UNet of the widths"):
        loaded(home, 9, config=pipeline_folder("tiny"))
    with pytest.raises(ConfigError, match="no UNet of the widths.*model_index.json"):
        loaded(home, 9, config=tmp_path)


def test_other_families_are_told_by_their_weights(files, tmp_path):
    _, home = files
    save_sd15(tmp_path / "old.safetensors", sdxl_unet(4, 32, 80))
    with pytest.raises(ConfigError, match="is a Stable Diffusion 1 or 2 checkpoint.*give an SDXL checkpoint"):
        GRefinePipeline.from_single_file(tmp_path / "old.safetensors", config=home / "config", maps=home / "config")
    state = load_file(home / "4.safetensors")
    refiner = {name.replace("embedders.1.model", "embedders.0.model"): v for name, v in state.items()}
    save_file(refiner, tmp_path / "refiner.safetensors")
    with pytest.raises(ConfigError, match="is the SDXL refiner .*use_refiner"):
        GRefinePipeline.from_single_file(tmp_path / "refiner.safetensors", maps=home / "config")
    save_file({"lora_unet.down": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ConfigError, match="is no SDXL checkpoint in the original one-file layout"):
        GRefinePipeline.from_single_file(tmp_path / "lora.safetensors", maps=home / "config")


def test_a_lacking_part_is_named_and_may_be_given(files, tmp_path):
    parts, home = files
    state = load_file(home / "9.safetensors")
    bare = {name: value for name, value in state.items() if not name.startswith("first_stage_model.")}
    save_file(bare, tmp_path / "bare.safetensors")
    options = {"maps": home / "config", "config": home / "config", "local_files_only": True}
    with pytest.raises(ConfigError, match=r"holds no vae: pass what it lacks \(vae=\.\.\.\)"):
        GRefinePipeline.from_single_file(tmp_path / "bare.safetensors", **options)
    pipe = GRefinePipeline.from_single_file(tmp_path / "bare.safetensors", vae=parts[9]["vae"], **options)
    assert pipe.vae is parts[9]["vae"]


def test_unreadable_files_are_one_sentence(files, tmp_path):
    (tmp_path / "noise.safetensors").write_bytes(b"nothing")
    torch.save({"state_dict": load_file(files[1] / "9.safetensors")}, tmp_path / "noise.ckpt")
    whole_file = (files[1] / "9.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole_file[: len(whole_file) // 2])
    for name in ("noise.safetensors", "cut.safetensors", "noise.ckpt"):
        with pytest.raises(WeightsCorrupt, match="is damaged, or no .safetensors file"):
            GRefinePipeline.from_single_file(tmp_path / name, maps="tiny", local_files_only=True)
    with pytest.raises(WeightsMissing, match="There is no file"):
        GRefinePipeline.from_single_file(tmp_path / "absent.safetensors", maps="tiny")


def test_the_file_s_pipeline_is_diffusers_own_reading(files):
    """What our door gives is what diffusers reads alone, where it can."""
    home = files[1]
    plain = StableDiffusionXLImg2ImgPipeline.from_single_file(
        str(home / "9.safetensors"), config=str(home / "config"), local_files_only=True
    )
    ours = loaded(home, 9)
    assert all(torch.equal(a, b) for a, b in zip(plain.unet.parameters(), ours.unet.parameters(), strict=True))
    assert json.loads(ours.scheduler.to_json_string()) == json.loads(plain.scheduler.to_json_string())
