"""Guidance: gradients against finite differences, exact inverses, and that a step goes where it is asked to go."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from grefine.errors import ConfigError, PromptError, WeightsMissing
from grefine.models.mdiqa import MDIQA
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.refine.guidance import (
    Guidance,
    Steering,
    as_prediction,
    check_preferences,
    clean_latents,
    noise_levels,
)
from lab.world.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def mdiqa():
    torch.manual_seed(0)
    small = {"channels": [8, 8, 12, 16], "stem_width": 4}
    return MDIQA(
        backbone="test_resnet", backbone_options=small, width=8, heads=2, hidden=16, gate_width=8,
        weight_backbone="test_resnet", weight_backbone_options=small, weight_width=8, local_heads=2, local_hidden=16,
        clip_layers=(1, 1, 1, 1), clip_width=4, clip_head_width=32, clip_tokens=8, clip_size=64,
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def moe(tokenizer):
    torch.manual_seed(1)
    return MoEAGIQA(
        crop_size=32, crop_patch=8, crop_width=24, crop_heads=3, taps=(0, 1), image_size=32, patch_size=8,
        vision_width=24, vision_depth=1, vision_heads=3, text_width=24, text_depth=1, text_heads=3, text_hidden=48,
        vocabulary=len(tokenizer), positions=16, text_length=16, width=24, heads=3, outputs=("quality", "alignment"),
    ).eval()  # fmt: skip


def picture(count=1, size=64, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "weights",
    [{"sharpness": 1.0, "noisiness": -0.5}, {"mdiqa": 1.0}, {"moe-agiqa": 1.0}, {"light": 1, "moe-agiqa": 2}],
)
def test_gradient_agrees_with_finite_differences(weights, mdiqa, moe, tokenizer):
    mdiqa, moe = mdiqa.double(), moe.double()
    guidance = Guidance(weights, mdiqa, moe, tokenizer)
    image, prompts = picture().double(), ["a red ball on grass"]
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    if "mdiqa" in weights:  # CLIP and the weights stand still by design
        semantics, importance = mdiqa.fusion.semantics(image), mdiqa.fusion.weights(image)
        keep = mdiqa.fusion.semantics.forward, mdiqa.fusion.weights.forward
        mdiqa.fusion.semantics.forward = lambda _x: semantics
        mdiqa.fusion.weights.forward = lambda _x: importance
    step = 1e-6
    with torch.no_grad():
        up, down = (guidance.preference(image + s * step * direction, prompts).sum() for s in (1, -1))
    analytic = (guidance.gradient(image, prompts) * direction).sum()
    if "mdiqa" in weights:
        mdiqa.fusion.semantics.forward, mdiqa.fusion.weights.forward = keep
    assert float(analytic) == pytest.approx(float((up - down) / (2 * step)), rel=2e-3, abs=1e-7)
    mdiqa.float()
    moe.float()


def test_ascending_the_gradient_raises_what_was_asked(mdiqa):
    guidance = Guidance({"sharpness": 1.0}, mdiqa)
    image = picture(2)
    before = mdiqa.score(image, ["sharpness"]).dimensions["sharpness"]
    gradient = guidance.gradient(image)
    after = mdiqa.score(image + 0.01 * gradient.sign(), ["sharpness"]).dimensions["sharpness"]
    assert (after > before).all()


def test_a_row_does_not_see_its_neighbours(mdiqa, moe, tokenizer):
    guidance = Guidance({"sharpness": 1.0, "moe-agiqa": 1.0}, mdiqa, moe, tokenizer)
    images, prompts = picture(2), ["a red ball", "a blue box on snow"]
    both = guidance.gradient(images, prompts)
    alone = guidance.gradient(images[1:], prompts[1:])
    torch.testing.assert_close(both[1:], alone, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("scheduler", [DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler])
def test_clean_latents_are_the_schedulers_own(kind, scheduler):
    """The clean image that guidance judges is the one that the scheduler itself would step to."""
    clipping = {"clip_sample": False} if scheduler is DDIMScheduler else {}
    own = scheduler(prediction_type=kind, **clipping)
    own.set_timesteps(5)
    clean, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    for timestep in own.timesteps[1:4]:
        signal, sigma = noise_levels(own, timestep, clean)
        latents = own.add_noise(clean, noise, timestep[None])
        torch.testing.assert_close(latents, signal * clean + sigma * noise, atol=1e-4, rtol=1e-3)
        prediction = as_prediction(kind, clean, latents, signal, sigma)
        torch.testing.assert_close(
            clean_latents(kind, prediction, latents, signal, sigma), clean, atol=2e-3, rtol=1e-3
        )
        if scheduler is DDIMScheduler or (scheduler is EulerDiscreteScheduler and kind != "sample"):
            own._step_index = None
            step = own.step(prediction, timestep, latents)
            torch.testing.assert_close(step.pred_original_sample, clean, atol=2e-3, rtol=1e-3)


class Pipe(SimpleNamespace):
    """The two parts of a pipeline that steering reads."""


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(2)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, sample_size=64,
    ).eval()  # fmt: skip
    scheduler = DDIMScheduler(prediction_type="v_prediction")
    scheduler.set_timesteps(10)
    return Pipe(vae=vae, scheduler=scheduler)


def test_steering_moves_the_clean_image_to_a_higher_score(pipe, mdiqa):
    guidance = Guidance({"sharpness": 1.0}, mdiqa)
    steering = Steering(guidance, step=0.05)
    generator = torch.Generator().manual_seed(5)
    latents, prediction = (torch.randn(1, 4, 32, 32, generator=generator) for _ in range(2))
    timestep = pipe.scheduler.timesteps[5]
    with torch.no_grad():
        moved = steering(pipe.scheduler, pipe.vae, prediction, latents, timestep)
    signal, noise = noise_levels(pipe.scheduler, timestep, latents)

    def liked(p):
        with torch.no_grad():
            clean = clean_latents("v_prediction", p, latents, signal, noise)
            image = (pipe.vae.decode(clean / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
            return guidance.preference(image).item()

    assert liked(moved) > liked(prediction)


def test_steering_leaves_pure_noise_alone(pipe, mdiqa):
    prediction = torch.randn(1, 4, 32, 32)
    timestep = pipe.scheduler.timesteps[0]
    assert (
        Steering(Guidance({"sharpness": 1.0}, mdiqa), start=0.5)(
            pipe.scheduler, pipe.vae, prediction, prediction, timestep
        )
        is prediction
    )


def test_only_the_needed_judges_steer(mdiqa, moe, tokenizer):
    assert Guidance({"sharpness": 1.0}, mdiqa).steers == ("mdiqa",)
    assert Guidance({"moe_agiqa": 1.0}, None, moe, tokenizer).steers == ("moe_agiqa",)
    assert Guidance({"mdiqa": 1, "sharpness": 0.0}, mdiqa).weights == {"mdiqa": 1.0}


def test_bad_use_is_one_sentence(mdiqa, moe, tokenizer):
    with pytest.raises(ConfigError, match="did you mean 'sharpness'"):
        check_preferences({"sharpnes": 1.0})
    with pytest.raises(ConfigError, match="must be a number"):
        check_preferences({"sharpness": "high"})
    with pytest.raises(ConfigError, match="zero"):
        Guidance({"sharpness": 0.0}, mdiqa)
    with pytest.raises(WeightsMissing, match="needs MDIQA"):
        Guidance({"sharpness": 1.0})
    with pytest.raises(WeightsMissing, match="MoE-AGIQA"):
        Guidance({"moe-agiqa": 1.0}, mdiqa)
    with pytest.raises(PromptError, match="prompt"):
        Guidance({"moe-agiqa": 1.0}, None, moe, tokenizer).gradient(picture())
    with pytest.raises(ConfigError, match="cannot read"):
        noise_levels(SimpleNamespace(), 1, picture())
