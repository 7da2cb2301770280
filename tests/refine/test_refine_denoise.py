"""The denoising loop against diffusers' own pipelines: same components, same noise, same latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from components import controlnet, pipeline
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from grefine.errors import ConfigError
from grefine.refine.denoise import CropBatch, Embeddings, Watch, denoise, latent_multiple, snap_mask
from grefine.refine.vae import decode_latents, encode_images

THEIRS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")


@pytest.fixture(scope="module", params=[9, 4], ids=["inpainting", "ordinary"])
def pipe(request):
    return pipeline(channels=request.param)


@pytest.fixture(autouse=True)
def same_encoding(monkeypatch):
    """Their encoder draws from the posterior, ours takes its mode: compare on the mode."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())


def scene():
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 8:40] = 255
    return image, mask


def crops_of(pipe, image, mask, strength=0.7, steps=3, seed=11, prompt="a red ball", **others):
    words = pipe.encode_prompt(prompt)
    pixels = torch.from_numpy(np.asarray(image).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    return CropBatch(
        images=pixels,
        masks=torch.from_numpy((mask > 0).astype(np.float32))[None, None],
        embeddings=Embeddings(words[0], words[2], words[1], words[3]),
        strength=strength,
        steps=steps,
        seeds=[seed],
        stage="repaint",
        **others,
    )


@pytest.mark.parametrize("scheduler", [None, EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_equals_diffusers_inpainting(pipe, scheduler):
    image, mask = scene()
    before = pipe.scheduler
    pipe.scheduler = before if scheduler is None else scheduler.from_config(before.config)
    theirs = StableDiffusionXLInpaintPipeline(**{name: getattr(pipe, name) for name in THEIRS}, add_watermarker=False)
    theirs.set_progress_bar_config(disable=True)
    wanted = theirs(
        prompt="a red ball",
        image=image,
        mask_image=Image.fromarray(mask),
        height=64,
        width=64,
        strength=0.7,
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(11),
        output_type="latent",
    ).images
    assert theirs.num_timesteps == 3
    pipe._guidance_scale = 4.0
    found = denoise(pipe, crops_of(pipe, image, mask), Watch())
    pipe.scheduler = before
    assert torch.allclose(found, wanted, atol=2e-5)


def test_equals_diffusers_controlnet():
    pipe = pipeline(controlnet=controlnet())
    image, _ = scene()
    everything = np.full((64, 64), 255, np.uint8)
    everything[:16] = 0  # a wholly grey masked picture would let rounding errors grow in the encoder's norms
    theirs = StableDiffusionXLControlNetInpaintPipeline(
        **{name: getattr(pipe, name) for name in (*THEIRS, "controlnet")}, add_watermarker=False
    )
    theirs.set_progress_bar_config(disable=True)
    wanted = theirs(
        prompt="a red ball",
        image=image,
        mask_image=Image.fromarray(everything),
        control_image=image,
        height=64,
        width=64,
        strength=0.5,
        num_inference_steps=4,
        guidance_scale=3.0,
        controlnet_conditioning_scale=1.0,
        generator=torch.Generator().manual_seed(11),
        output_type="latent",
    ).images
    crops = crops_of(pipe, image, everything, strength=0.5, steps=2, guidance=3.0, control=True)
    found = denoise(pipe, crops, Watch())
    assert torch.allclose(found, wanted, atol=2e-5)
    without = denoise(pipe, crops_of(pipe, image, everything, strength=0.5, steps=2, guidance=3.0), Watch())
    assert (found - without).abs().max() > 1e-3, "the ControlNet must matter"


def test_rows_do_not_depend_on_company(pipe):
    image, mask = scene()
    one = crops_of(pipe, image, mask)
    other = crops_of(pipe, image.rotate(90), mask, seed=5, prompt="a blue box")
    both = CropBatch(
        images=torch.cat([other.images, one.images]),
        masks=torch.cat([other.masks, one.masks]),
        embeddings=Embeddings(
            torch.cat([other.embeddings.prompt, one.embeddings.prompt]),
            torch.cat([other.embeddings.pooled, one.embeddings.pooled]),
            torch.cat([other.embeddings.negative, one.embeddings.negative]),
            torch.cat([other.embeddings.negative_pooled, one.embeddings.negative_pooled]),
        ),
        strength=0.7,
        steps=3,
        seeds=[5, 11],
        stage="repaint",
    )
    pipe._guidance_scale = 4.0
    alone = denoise(pipe, crops_of(pipe, image, mask), Watch())
    assert torch.allclose(denoise(pipe, both, Watch())[1:], alone, atol=1e-5)


def test_few_step_scheduler_runs_its_own_steps(pipe):
    image, mask = scene()
    before = pipe.scheduler
    pipe.scheduler = LCMScheduler.from_config(before.config)
    watch = Watch()
    latents = denoise(pipe, crops_of(pipe, image, mask, strength=0.6, steps=4), watch)
    again = denoise(pipe, crops_of(pipe, image, mask, strength=0.6, steps=4), Watch())
    pipe.scheduler = before
    assert watch.index == 4
    assert torch.equal(latents, again), "its noise must come from the crop's own seed"


def test_ordinary_unet_keeps_what_is_outside_the_mask():
    pipe = pipeline(channels=4)
    image, mask = scene()
    crops = crops_of(pipe, image, mask)
    latents = denoise(pipe, crops, Watch())
    clean = encode_images(pipe.vae, crops.images, torch.device("cpu"))
    outside = torch.nn.functional.interpolate(crops.masks, size=16)[0, 0] == 0
    assert torch.allclose(latents[0][:, outside], clean[0][:, outside], atol=1e-6)


def test_given_noise_of_the_wrong_shape_is_refused(pipe):
    image, mask = scene()
    with pytest.raises(ConfigError, match=r"\(1, 4, 16, 16\)"):
        denoise(pipe, crops_of(pipe, image, mask, noise=torch.zeros(1, 4, 8, 8)), Watch())


def test_mask_snaps_to_whole_cells():
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, 3, 5] = 1
    snapped = snap_mask(mask, 4)
    assert snapped.sum() == 16
    assert snapped[0, 0, 0:4, 4:8].all()


def test_latent_multiple_is_one_coarsest_cell(pipe):
    assert latent_multiple(pipe) == 8


def test_vae_statistics_are_used_both_ways(pipe):
    image, _ = scene()
    pixels = torch.from_numpy(np.asarray(image).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        plain = decode_latents(pipe.vae, encode_images(pipe.vae, pixels, torch.device("cpu")))
        pipe.vae.register_to_config(latents_mean=[0.1] * 4, latents_std=[0.7] * 4)
        shifted = decode_latents(pipe.vae, encode_images(pipe.vae, pixels, torch.device("cpu")))
    pipe.vae.register_to_config(latents_mean=None, latents_std=None)
    assert torch.allclose(plain, shifted, atol=1e-4)


def test_shown_damage_fills_the_masked_image_channels():
    pipe = pipeline(channels=9)
    image, mask = scene()
    seen = {}

    def note(_, index, timestep, tensors):
        del index, timestep
        seen.setdefault("masked", tensors["masked_image_latents"])
        return tensors

    kept = {}
    for shown in (False, True):
        seen.clear()
        crops = crops_of(pipe, image, mask, source_visible=shown)
        kept[shown] = denoise(pipe, crops, Watch(note, ("masked_image_latents",))), seen["masked"]
    whole = encode_images(pipe.vae, crops.images, torch.device("cpu"))
    assert torch.equal(kept[True][1], whole)
    assert not torch.allclose(kept[False][1], whole)
    assert not torch.allclose(kept[True][0], kept[False][0])
