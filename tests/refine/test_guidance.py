"""Guidance: gradients against finite differences, exact inverses, and that a step goes where it is asked to go."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from grefine.errors import ConfigError, PromptError, WeightsMissing
from grefine.models.mdiqa import MDIQA
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.refine.denoise import choose_timesteps
from grefine.refine.guidance import (
    Guidance,
    Steering,
    check_preferences,
    clean_latents,
    frozen,
    noise_levels,
)
from grefine.refine.vae import latent_gradient
from lab.world.vocabulary import build_tokenizer


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


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
EPSILON = {
    "euler": EulerDiscreteScheduler(**BETAS),
    "euler, karras": EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True, timestep_spacing="trailing"),
    "euler a": EulerAncestralDiscreteScheduler(**BETAS),
    "heun": HeunDiscreteScheduler(**BETAS),
    "dpm++ 2m": DPMSolverMultistepScheduler(**BETAS),
    "dpm++ 2m karras": DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True),
    "ddim": DDIMScheduler(**BETAS, clip_sample=False),
    "ddim, v": DDIMScheduler(**BETAS, clip_sample=False, prediction_type="v_prediction"),
    "euler, v": EulerDiscreteScheduler(**BETAS, prediction_type="v_prediction"),
    "dpm++ 2m, v": DPMSolverMultistepScheduler(**BETAS, prediction_type="v_prediction"),
    "lcm": LCMScheduler(**BETAS, clip_sample=False),
    "unipc": UniPCMultistepScheduler(**BETAS),
}


class Seen(Steering):
    """Steering that notes the clean latents it is given, and pulls everywhere alike."""

    def gradient(self, vae, clean):
        self.clean = clean
        return torch.ones_like(clean)


def ideal(scheduler, latents, timestep, clean):
    """What a perfect UNet of a world with one picture predicts, from the scheduler's own account of its noise."""
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None:
        if scheduler.step_index is None:
            scheduler._init_step_index(timestep)
        sigma = sigmas[scheduler.step_index].item()
        scales = type(scheduler).__name__.startswith(("Euler", "Heun"))
        signal = 1.0 if scales else 1 / (1 + sigma**2) ** 0.5
        noise = sigma * signal
    else:
        signal, noise = (scheduler.alphas_cumprod[timestep] ** 0.5).item(), 0.0
        noise = (1 - signal**2) ** 0.5
    epsilon = (latents - signal * clean) / noise
    if scheduler.config.prediction_type == "epsilon":
        return epsilon
    total = (signal**2 + noise**2) ** 0.5  # v lives on the unit circle
    return (signal * epsilon - noise * clean) / total


@pytest.mark.parametrize("strength", [0.1, 0.9])
@pytest.mark.parametrize("name", EPSILON)
def test_the_clean_latents_are_the_schedulers_own_at_every_step(name, strength, mdiqa):
    """In a world of one picture every prediction leads to it, and the last, moved one to where it was moved."""
    scheduler = copy.deepcopy(EPSILON[name])
    timesteps, _ = choose_timesteps(scheduler, 4, strength, "cpu", "noise")
    generator = torch.Generator().manual_seed(1)
    clean, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    latents = scheduler.add_noise(clean, noise, timesteps[:1])
    steering = Seen(Guidance({"sharpness": 1.0}, mdiqa), start=1.0)
    for index, timestep in enumerate(timesteps):
        scheduler.scale_model_input(latents, timestep)
        steering.step = 0.15 if index == len(timesteps) - 1 else 0.0
        prediction = ideal(scheduler, latents, timestep, clean)
        signal, sigma = noise_levels(scheduler, timestep, latents)
        moved = steering(scheduler, None, prediction, latents, timestep)
        torch.testing.assert_close(steering.clean, clean, atol=2e-3, rtol=1e-3)
        latents = scheduler.step(moved, timestep, latents, return_dict=False)[0]
    share = sigma / math.hypot(signal, sigma)
    kept = 0.0  # of the noisy latents, by LCM's boundary condition
    if name == "lcm":
        kept = 0.25 / ((float(timesteps[-1]) * 10) ** 2 + 0.25)
    torch.testing.assert_close(latents, clean + (1 - kept) * 0.15 * share, atol=5e-3, rtol=1e-3)


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


def test_steering_leaves_pure_noise_alone_but_never_the_last_step(pipe, mdiqa):
    prediction = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(4))
    steering = Steering(Guidance({"sharpness": 1.0}, mdiqa), start=0.0)
    first, last = pipe.scheduler.timesteps[0], pipe.scheduler.timesteps[-1]
    assert steering(pipe.scheduler, pipe.vae, prediction, prediction, first) is prediction
    assert not steering(pipe.scheduler, pipe.vae, prediction, prediction, last).equal(prediction)


def test_moe_agiqa_sees_every_part_of_a_crop(moe, tokenizer):
    guidance = Guidance({"moe-agiqa": 1.0}, None, moe, tokenizer)
    felt = guidance.gradient(picture(size=80)[..., :56], ["a red ball"]).abs()
    assert (felt.unfold(2, 8, 8).unfold(3, 8, 8).amax(dim=(1, 4, 5)) > 0).all()


def kept_bytes(work):
    """Return the result of some work and the most bytes that graphs held meanwhile."""
    held, most = [0], [0]

    class Kept:
        def __init__(self, tensor):
            self.tensor, self.size = tensor, tensor.numel() * tensor.element_size()
            held[0] += self.size
            most[0] = max(most[0], held[0])

        def __del__(self):
            held[0] -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        found = work()
    return found, most[0]


def test_the_decoders_graph_does_not_grow_with_the_image(pipe):
    sizes = {}
    for side in (64, 128):
        latents = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(side))
        with frozen(pipe.vae):
            found, sizes[side] = kept_bytes(lambda x=latents: latent_gradient(pipe.vae, x, torch.clone))
        leaf = latents.requires_grad_(True)
        image, whole_size = kept_bytes(lambda leaf=leaf: pipe.vae.decode(leaf / pipe.vae.config.scaling_factor).sample)
        whole = torch.autograd.grad(image, leaf, image.detach())[0]
        # Of several tiles each has its own statistics of normalisation, which weights drawn at random lean on most.
        assert torch.cosine_similarity(found.flatten(), whole.flatten(), 0) > (0.5 if side > 64 else 0.99999)
        assert sizes[side] < (0.5 if side > 64 else 1.0) * whole_size
    assert sizes[128] < 1.6 * sizes[64]


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
