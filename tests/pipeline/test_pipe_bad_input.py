"""One clear error for each thing that cannot work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from components import pipeline
from PIL import Image
from test_pipe_exactness import bad_place, picture

from grefine.errors import ConfigError, GRefineError, ImageError, PromptError, WorldMismatch
from grefine.types import QualityMap
from lab.world.pictures import pictures_with_captions


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def pixels(value=0.5, shape=(64, 64, 3)):
    return np.full(shape, value, np.float32)


CASES = {
    "no image": ({"image": None}, ImageError, "No image was given"),
    "empty list": ({"image": []}, ImageError, "No image was given"),
    "a path": ({"image": "a.png"}, ImageError, "does not exist"),
    "prompts": ({"prompt": ["a", "b"]}, PromptError, "2 prompts were given for 1 images"),
    "prompt type": ({"prompt": 3}, PromptError, "must be a text"),
    "negatives": ({"negative_prompt": ["a", "b"]}, PromptError, "2 negative prompts were given for 1 images"),
    "height": ({"height": "tall"}, ConfigError, "height must be a whole number, not str"),
    "giant": ({"height": 10**6, "width": 10**6}, ImageError, "are accepted"),
    "width": ({"width": 3.5}, ConfigError, "width must be a whole number, not float"),
    "steps type": ({"num_inference_steps": "2"}, ConfigError, "num_inference_steps must be a whole number"),
    "samples type": ({"num_images_per_prompt": []}, ConfigError, "num_images_per_prompt must be a whole number"),
    "guidance nan": ({"guidance_scale": float("nan")}, ConfigError, "guidance_scale must be a finite number"),
    "strength type": ({"strength": "much"}, ConfigError, "strength must be a number, not str"),
    "latents nan": ({"latents": torch.full((1, 4, 8, 8), torch.nan)}, ConfigError, "latents holds NaN"),
    "latents type": ({"latents": [1]}, ConfigError, "latents must be a tensor, not list"),
    "seed": ({"generator": 7}, ConfigError, "generator must be a torch.Generator or a list of them, not int"),
    "callback": ({"callback_on_step_end": "print"}, ConfigError, "callback_on_step_end must be a function"),
    "guard type": ({"guard": "no"}, ConfigError, "guard must be true or false"),
    "guidance type": ({"guidance": "sharpness"}, ConfigError, "guidance must be a mapping"),
    "lora scale": ({"cross_attention_kwargs": 0.5}, ConfigError, "cross_attention_kwargs must be a mapping"),
    "clip skip": ({"clip_skip": "one"}, ConfigError, "clip_skip must be a whole number"),
    "scorers": ({"scorers": 3}, ConfigError, "scorers must be a list of scorers, not int"),
    "NaN": ({"image": pixels(np.nan)}, ImageError, "NaN"),
    "0..255": ({"image": pixels(128.0)}, ImageError, "divide 0..255 by 255"),
    "-1..1": ({"image": pixels(-0.5)}, ImageError, r"\(x \+ 1\) / 2"),
    "channels": ({"image": pixels(shape=(64, 64, 4))}, ImageError, r"\(H, W, 3\)"),
    "mask size": ({"mask_image": Image.new("L", (32, 64), 255)}, ImageError, "Mask 0 is 32x64 but its image is 64x64"),
    "masks": ({"mask_image": [Image.new("L", (64, 64))] * 2}, ImageError, "2 masks were given for 1 images"),
    "mask range": ({"mask_image": pixels(7.0, (64, 64))}, ImageError, "floats in 0..1"),
    "strength": ({"strength": 1.5}, ConfigError, "strength must lie above 0 and up to 0.99"),
    "strength 0": ({"strength": 0.0}, ConfigError, "strength must lie above 0"),
    "output": ({"output_type": "jpeg"}, ConfigError, "pil, np, pt, latent"),
    "generators": ({"generator": [torch.Generator()] * 3}, ConfigError, "3 generators were given for 1 images"),
    "samples": ({"num_images_per_prompt": 0}, ConfigError, "at least 1"),
    "restorer": ({"restorer": "controlnet_tile"}, ConfigError, "did you mean 'controlnet-tile'"),
    "no controlnet": ({"restorer": "controlnet-tile"}, ConfigError, "needs the component controlnet"),
    "settings": ({"config": {"totl_steps": 3}}, ConfigError, "did you mean 'total_steps'"),
    "config name": ({"config": "defalt"}, ConfigError, "did you mean 'default'"),
    "steps": ({"num_inference_steps": 0}, ConfigError, "total_steps must be at least 1"),
    "guidance": ({"guidance": {"sharpnes": 1.0}}, ConfigError, "did you mean 'sharpness'"),
    "embeds": ({"prompt_embeds": torch.zeros(2, 32, 64), "prompt": None}, PromptError, "2 rows for 1 images"),
    "both": ({"prompt_embeds": torch.zeros(1, 32, 64)}, PromptError, "not both"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_error(pipe, name):
    arguments, kind, sentence = CASES[name]
    given = {"prompt": "a ball", "image": picture(), "quality_map": bad_place, "guard": False} | arguments
    with pytest.raises(kind, match=sentence) as caught:
        pipe(**given)
    assert isinstance(caught.value, GRefineError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("maps", "sentence"),
    [
        (lambda images: [], "0 maps for 1 images"),
        (lambda images: [QualityMap(np.ones((8, 8), np.float32), 0.5)], "8x8 but its image is 64x64"),
        (lambda images: [QualityMap(np.full((64, 64), np.nan, np.float32), 0.5)], "needs finite"),
        (lambda images: [QualityMap(np.full((64, 64), 9.0, np.float32), 0.5)], "0..1"),
    ],
)
def test_bad_heatmaps(pipe, maps, sentence):
    with pytest.raises(GRefineError, match=sentence):
        pipe(image=picture(), quality_map=maps)


def test_a_picture_of_another_world_is_refused_unless_forced():
    # As pipelines saved by grefine 0.1 state it: the network of the bundled pipeline of that world is asked.
    pipe = pipeline(world={"name": "toy", "max_roundtrip": 0.5, "instead": "sdxl"})
    with pytest.raises(WorldMismatch, match="Not a picture of the toy world.*Use the pipeline 'sdxl'.*force=True"):
        pipe(image=picture())
    result = pipe(image=picture(), quality_map=bad_place, force=True, num_inference_steps=2, guard=False).results[0]
    assert result.decision.kept != "original"
    assert result.forced
    assert result.decision.reason.startswith("Forced, though not a picture of the toy world:")
    scene = pictures_with_captions(1, 3)[0][0]
    known = pipe(image=scene, force=True, plan_only=True).results[0]
    assert not known.forced
    assert "Forced" not in known.decision.reason


def test_a_world_that_no_network_can_tell_is_refused_whole():
    scene = pictures_with_captions(1, 3)[0][0]
    with pytest.raises(WorldMismatch, match="moon world.*without its component 'domain'"):
        pipeline(world={"name": "moon"})(image=scene)


def test_a_world_statement_is_checked_when_the_pipeline_is_made():
    with pytest.raises(ConfigError, match="unknown key 'max_error'"):
        pipeline(world={"name": "toy", "max_error": 0.1})


@pytest.mark.parametrize(("part", "whose"), [("unet", "denoiser"), ("vae", "VAE")])
def test_values_that_are_no_numbers_are_one_sentence(part, whose):
    pipe = pipeline()
    with torch.no_grad():
        next(getattr(pipe, part).parameters()).fill_(float("nan"))
    mask = Image.new("L", (64, 64), 255)
    with pytest.raises(ImageError, match=rf"The {whose} gave values that are no finite numbers in float32: use"):
        pipe("a red ball", Image.new("RGB", (64, 64)), mask, num_inference_steps=2, guard=False)


def test_no_mask_is_cut_from_thresholds_that_nobody_measured():
    pipe, image = pipeline(calibration=None), picture()
    told = r"not measured.*grefine calibrate.*mask_image=.*force=True"
    for ask in (pipe, pipe.plan, pipe.explain):
        with pytest.raises(ConfigError, match=told):
            ask("a red ball", image)
    assert pipe("a red ball", image, plan_only=True, force=True).results[0].plan is not None
    assert "uncalibrated guesses" in pipe.explain("a red ball", image, force=True)
    mask = Image.new("L", image.size, 255)
    assert pipe("a red ball", image, mask, plan_only=True).results[0].plan.mask.all()
    drawn = {"quality_map": bad_place, "config": {"use_aq": False}}
    assert pipe("a red ball", image, plan_only=True, **drawn).results[0].plan.regions
    with pytest.raises(ConfigError, match=told):
        pipe("a red ball", [image] * 2, [mask, None], plan_only=True)
