"""The sdxl recipe up to a loaded pipeline: files of the published layout, assembled by the code that users run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from components import components, unet
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from hub import PLACES, VOCABULARY, fixed_vae, write_recipes, write_repositories
from ldm_layout import sdxl_unet
from PIL import Image
from transformers import CLIPTokenizer

from grefine.errors import GRefineError, WeightsMissing
from grefine.fetching import fetch_recipe
from grefine.indicators.recipe import assembled_folder, read_recipe
from grefine.indicators.released import released_tokenizer
from grefine.pipeline import GRefinePipeline
from grefine.resources import bundled, pipeline_names
from grefine.scorers.resolve import availability, load_scorer

SDXL = bundled("pipelines") / "sdxl"
WORDS = ["a red ball on snow", "", "Ünïcödé 的 🎈 !!", "photo " * 100, "<|startoftext|> <start_of_text>", "x\x00y\t\n"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_repositories(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def cache(tmp_path, monkeypatch, published):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GREFINE_RECIPES", str(write_recipes(tmp_path / "recipes", published)))
    return tmp_path / "cache"


@pytest.fixture
def placed(cache, published):
    """Copies by hand, where the sentence about missing files says to put them."""
    for repository, place in PLACES.items():
        shutil.copytree(published / repository, cache / place, dirs_exist_ok=True)
    return cache


def test_without_weights_one_sentence_names_the_commands(cache):
    with pytest.raises(WeightsMissing) as caught:
        GRefinePipeline.from_pretrained("sdxl")
    assert "run `grefine fetch sdxl` once" in str(caught.value), "which brings the others along"
    assert "'base/unet/config.json' of sdxl" in str(caught.value)
    assert "about 13 GB" in str(caught.value)


def test_the_recipe_names_real_components_and_known_fetches():
    found = read_recipe(SDXL)
    assert "sdxl" in pipeline_names()
    required = {name for name, part in components().items() if part is not None}
    assert set(found.parts) == required | {"controlnet", "reward", "clipiqa"}
    for part in found.parts.values():
        assert fetch_recipe(part.fetch).licence


def test_no_prompt_reaches_beyond_the_table(placed):
    pipe = GRefinePipeline.from_pretrained("sdxl")
    rows = pipe.clip.clip.token_embedding.weight.shape[0]
    assert rows == VOCABULARY == len(pipe.clip_tokenizer)
    for words in WORDS:
        assert max(pipe.clip_tokenizer(words, padding="max_length", truncation=True).input_ids) < rows
    assert pipe.clip_tokenizer("a").input_ids == [49406, 320, 49407]
    picture = Image.effect_noise((96, 96), 60).convert("RGB")
    for words in WORDS:
        assert pipe(words, picture, plan_only=True, force=True).results[0].quality is not None


def test_the_tokenizer_is_that_of_the_published_clip():
    from open_clip.tokenizer import SimpleTokenizer

    source, tokenizer = SimpleTokenizer(), released_tokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    assert tokenizer.get_vocab() == {names.get(word, word): index for word, index in source.encoder.items()}
    for text in ("a photo of a cat's café, 12 ünïcode 日本", "Good photo..", ""):
        assert tokenizer(text).input_ids[1:-1] == source.encode(text)


def test_what_was_assembled_wrongly_is_made_anew(placed):
    """Folders of a version that took open_clip's names as they are, so that begin and end lay beyond the table."""
    from open_clip.tokenizer import SimpleTokenizer

    source = SimpleTokenizer()
    merges = sorted(source.bpe_ranks, key=source.bpe_ranks.__getitem__)
    stale = placed / "pipelines" / "sdxl" / "clip_tokenizer"
    CLIPTokenizer(vocab=dict(source.encoder), merges=merges, model_max_length=77).save_pretrained(stale)
    assert max(CLIPTokenizer.from_pretrained(stale)("a").input_ids) >= VOCABULARY
    home = assembled_folder(SDXL)
    assert CLIPTokenizer.from_pretrained(home / "clip_tokenizer")("a").input_ids == [49406, 320, 49407]
    made = (home / "clip_tokenizer" / "tokenizer.json").stat().st_mtime_ns
    assembled_folder(SDXL)
    assert (home / "clip_tokenizer" / "tokenizer.json").stat().st_mtime_ns == made


def test_fetched_parts_load_with_the_arguments_that_diffusers_users_pass(placed):
    pipe = GRefinePipeline.from_pretrained("sdxl", dtype=torch.bfloat16, local_files_only=True)
    assert pipe.unet.dtype == torch.bfloat16
    assert pipe.controlnet is not None
    assert pipe.config.refine_defaults["restorer"] == "controlnet-tile"


def test_without_the_optional_controlnet_stage_2_falls_back_and_says_so(placed):
    shutil.rmtree(placed / "sdxl" / "controlnet")
    pipe = GRefinePipeline.from_pretrained("sdxl")
    assert pipe.controlnet is None
    assert pipe.config.refine_defaults["restorer"] == "inpaint"


def test_a_calibration_of_ones_own_survives(placed):
    home = assembled_folder(SDXL)
    index = json.loads((home / "model_index.json").read_text())
    (home / "model_index.json").write_text(json.dumps(index | {"calibration": {"p_gate": 0.3}}))
    assert GRefinePipeline.from_pretrained("sdxl").config.calibration == {"p_gate": 0.3}


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.fp16.safetensors", "tokenizer_2/vocab.json"])
def test_a_half_fetched_recipe_names_the_file_that_is_missing(placed, name):
    (placed / "sdxl" / "base" / name).unlink()
    with pytest.raises(WeightsMissing, match=rf"'base/{name}' of sdxl") as caught:
        GRefinePipeline.from_pretrained("sdxl")
    assert "grefine fetch sdxl" in str(caught.value)


def old_unet(home: Path) -> None:
    """Stable Diffusion 1's kind of UNet."""
    added = ("addition_embed_type", "projection_class_embeddings_input_dim", "addition_time_embed_dim")
    config = dict(unet(9).config) | dict.fromkeys(added)
    UNet2DConditionModel.from_config(config).save_pretrained(home / "sdxl" / "base" / "unet", variant="fp16")


def other_words(home: Path) -> None:
    sdxl_unet(9, 32, 40).half().save_pretrained(home / "sdxl" / "base" / "unet", variant="fp16")


def other_pooling(home: Path) -> None:
    sdxl_unet(9, 48, 80).half().save_pretrained(home / "sdxl" / "base" / "unet", variant="fp16")


def newer_vae(home: Path) -> None:
    config = dict(fixed_vae().config) | {"latent_channels": 16}
    AutoencoderKL.from_config(config).save_pretrained(home / "sdxl" / "vae")


def other_controlnet(home: Path) -> None:
    made = ControlNetModel.from_unet(sdxl_unet(4, 32, 40), conditioning_embedding_out_channels=(8, 16, 16, 16))
    made.save_pretrained(home / "sdxl" / "controlnet")


def weights_of_the_vae(home: Path) -> None:
    weights = home / "sdxl" / "vae" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, home / "sdxl" / "base" / "unet" / "diffusion_pytorch_model.fp16.safetensors")


def other_clip(home: Path) -> None:
    shutil.copy(home / "clip-b32" / "model.safetensors", home / "clip" / "open_clip_model.safetensors")


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (old_unet, "addition_embed_type: None where text_time.*Stable Diffusion 1 or 2.*load an SDXL checkpoint"),
        (other_words, "values per word: 80 where 40.*an SDXL checkpoint"),
        (other_pooling, "values for a whole prompt: 32 where 48.*an SDXL checkpoint"),
        (newer_vae, "channels of latents: 16 where 4.*load an SDXL checkpoint"),
        (other_controlnet, "ControlNet's cross_attention_dim: 40 where 80.*load an SDXL"),
        (weights_of_the_vae, "weights of unet are another network's: they lack.*run `grefine fetch sdxl` again"),
        (other_clip, "give a CLIP with a ViT.*run `grefine fetch clip` again"),
    ],
)
def test_weights_of_another_family_are_one_sentence_with_the_next_step(placed, put, words):
    put(placed)
    with pytest.raises(GRefineError, match=words) as caught:
        GRefinePipeline.from_pretrained("sdxl")
    assert "\n" not in str(caught.value)


def test_a_file_that_lost_its_end_counts_as_missing(placed):
    assembled_folder(SDXL)
    file = placed / "sdxl" / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsMissing, match=r"'vae/diffusion_pytorch_model\.safetensors' of sdxl"):
        GRefinePipeline.from_pretrained("sdxl")


def test_a_fetched_judge_runs_by_its_name_alone_and_says_what_it_says_in_the_guard(placed):
    picture = Image.effect_noise((96, 70), 60).convert("RGB")
    held = GRefinePipeline.from_pretrained("sdxl").judges()
    assert len(held) == 2
    for judge in held:
        assert availability(judge.spec.name)[0]
        alone = load_scorer(judge.spec.name)([picture], ["a ball on snow"])[0].values
        assert alone == pytest.approx(judge([picture], ["a ball on snow"])[0].values, abs=1e-6)


@pytest.mark.parametrize("other", [False, True])
def test_prompts_of_another_clip_are_said_to_be_so(placed, tmp_path, other, recwarn):
    if other:
        for file in (placed / "pq-prompts").iterdir():
            content = torch.load(file, weights_only=True)
            content["params"]["prompt_learner.token_prefix"] += 0.01
            torch.save(content, file)
        shutil.copytree(placed / "pq-prompts", tmp_path / "other" / "pq-prompts")
        write_recipes(tmp_path / "recipes", tmp_path / "other")
    assembled_folder(SDXL)
    assert any("another start token" in str(found.message) for found in recwarn) == other
