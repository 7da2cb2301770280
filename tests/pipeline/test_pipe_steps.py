"""Steps are counted as executed; callbacks see both stages and may change, weaken or stop them."""

from __future__ import annotations

import pytest
import torch
from components import controlnet, pipeline
from diffusers import EulerAncestralDiscreteScheduler, HeunDiscreteScheduler, LCMScheduler
from test_pipe_exactness import bad_place, picture

from grefine.errors import ConfigError


@pytest.fixture(scope="module")
def pipe():
    return pipeline(controlnet=controlnet())


def call(pipe, **others):
    arguments = {"quality_map": bad_place, "guard": False, "generator": torch.Generator().manual_seed(1)}
    others["config"] = {"use_aq": False} | others.get("config", {})  # random weights find every phrase missing
    return pipe(prompt="a red ball", image=picture(), **arguments | others)


def watch(pipe, **others):
    seen, runs = [], []
    forward = pipe.unet.forward

    def count(*args, **kwargs):
        runs.append(args[0].shape[0])
        return forward(*args, **kwargs)

    def note(pipe, index, timestep, tensors):
        seen.append((index, tensors["stage"], tuple(tensors)))
        return tensors

    pipe.unet.forward = count
    try:
        out = call(pipe, callback_on_step_end=note, **others)
    finally:
        pipe.unet.forward = forward
    return out, seen, runs


@pytest.mark.parametrize("strength", [0.3, 0.5, 0.95])
def test_steps_are_counted_as_executed_in_both_stages(pipe, strength):
    _, seen, runs = watch(pipe, num_inference_steps=7, strength=strength)
    assert [stage for _, stage, _ in seen] == ["repaint"] * 4 + ["restore"] * 3
    assert [index for index, _, _ in seen] == list(range(7))
    assert len(runs) == 7
    assert pipe.num_timesteps == 7
    assert runs == [2] * 4 + [1] * 3, "guided in stage 1, plain in stage 2"


def test_what_is_mended_in_sight_takes_few_steps_unless_steps_are_asked_for(pipe):
    preferring = pipeline(unet_traits={"damage": True, "steps": 2})
    _, seen, runs = watch(preferring)
    assert [stage for _, stage, _ in seen] == ["repaint"] * 2 + ["restore"] * 2
    assert runs == [1] * 4
    assert preferring.num_timesteps == 4
    assert len(watch(pipe)[1]) == 12, "in the blank every step of stage 1 counts, and two of stage 2"
    assert len(watch(pipe, num_inference_steps=20)[1]) == 20
    assert len(watch(preferring, config={"reading": "paper"})[1]) == 20, "the paper shows its UNet nothing"
    words = preferring.explain("a red ball", picture(), quality_map=bad_place, config={"use_aq": False})
    assert "Stage 1 runs 2 steps" in words
    assert "Stage 2 (inpaint) runs 2 steps" in words
    assert len(watch(preferring)[1]) == 4
    assert len(watch(preferring, num_inference_steps=6)[1]) == 6


def test_all_steps_go_to_stage_1_without_stage_2(pipe):
    _, seen, _ = watch(pipe, num_inference_steps=5, restorer="none")
    assert [stage for _, stage, _ in seen] == ["repaint"] * 5


def test_callback_changes_and_latent_output(pipe):
    def erase(pipe, index, timestep, tensors):
        if index == pipe.num_timesteps - 1:
            tensors["latents"] = torch.zeros_like(tensors["latents"])
        return tensors

    out = call(pipe, num_inference_steps=4, callback_on_step_end=erase, output_type="latent")
    assert out.images.shape == (1, 4, 16, 16)
    assert out.images.abs().sum() == 0


def test_callback_may_stop(pipe):
    steps = []

    def stop(pipe, index, timestep, tensors):
        steps.append(index)
        pipe._interrupt = index >= 1
        return tensors

    call(pipe, num_inference_steps=6, callback_on_step_end=stop)
    assert steps == [0, 1]


def test_callback_sees_what_it_asks_for(pipe):
    asked = ["latents", "prompt_embeds", "masked_image_latents"]
    _, seen, _ = watch(pipe, num_inference_steps=2, callback_on_step_end_tensor_inputs=asked)
    assert seen[0][2] == ("stage", *asked)
    with pytest.raises(ConfigError, match="noise_pred"):
        call(pipe, callback_on_step_end_tensor_inputs=["noise_pred"])


@pytest.mark.parametrize("kind", [LCMScheduler, HeunDiscreteScheduler, EulerAncestralDiscreteScheduler])
def test_schedulers_run_and_repeat(pipe, kind):
    before = pipe.scheduler
    pipe.scheduler = kind.from_config(before.config)
    first = call(pipe, num_inference_steps=4, output_type="pt").images
    again = call(pipe, num_inference_steps=4, output_type="pt").images
    pipe.scheduler = before
    assert torch.equal(first, again)
    assert first.isfinite().all()


def test_a_schedule_that_is_too_long_is_refused(pipe):
    with pytest.raises(ConfigError, match="70 steps are too many at strength 0.05: DDIMScheduler takes at most 49"):
        call(pipe, num_inference_steps=70, strength=0.05, restorer="none")


@pytest.mark.parametrize("restorer", ["inpaint", "controlnet-tile"])
def test_restorers_by_name(pipe, restorer):
    out = call(pipe, num_inference_steps=4, restorer=restorer)
    assert out.results[0].decision.kept == "both"


def test_your_own_restorer(pipe):
    def darker(image, prompt, strength, generator):
        assert prompt == "a red ball"
        assert strength == 0.1
        return image.point(lambda value: value // 2)

    out = call(pipe, num_inference_steps=4, restorer=darker, preserve="exact")
    assert out.results[0].decision.kept == "both"
    with pytest.raises(Exception, match="not a PIL image of .64, 64."):
        call(pipe, num_inference_steps=4, restorer=lambda image, **_: image.resize((8, 8)))


def test_few_step_refiner_pipeline_as_restorer(pipe):
    from diffusers import StableDiffusionXLImg2ImgPipeline

    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    parts = {name: getattr(pipe, name) for name in names} | {"unet": pipeline(channels=4).unet}
    refiner = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
    refiner.set_progress_bar_config(disable=True)
    with pytest.raises(ConfigError, match="use_refiner"):
        call(pipe, num_inference_steps=4, restorer="refiner")
    pipe.use_refiner(refiner)
    out = call(pipe, num_inference_steps=4, restorer="refiner")
    pipe.use_refiner(None)
    assert out.results[0].decision.kept == "both"
    assert refiner.num_timesteps == 2


def test_given_noise_is_used(pipe):
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    one = call(pipe, num_inference_steps=2, latents=noise, output_type="pt").images
    other = call(pipe, num_inference_steps=2, latents=-noise, output_type="pt").images
    assert not torch.equal(one, other)
