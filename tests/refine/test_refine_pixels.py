"""Compositing, filling, seeds, timesteps and settings: small exact things."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
)

from grefine.errors import ConfigError
from grefine.refine.composite import (
    changed_part,
    changed_share,
    feather_inside,
    local_change,
    match_low_frequencies,
    paste,
    resize,
    resize_mask,
    smooth_fill,
)
from grefine.refine.denoise import choose_timesteps
from grefine.refine.inputs import Picture, derive, image_seeds, pixel_digest, read_masks
from grefine.refine.settings import (
    PLAIN,
    RefineConfig,
    read_settings,
    resolve,
    traits_of_call,
    unet_traits,
)

MASK = np.zeros((32, 32), bool)
MASK[8:24, 8:24] = True


def gradient():
    ramp = np.linspace(0, 255, 32, dtype=np.float32).astype(np.uint8)
    return np.stack([np.tile(ramp, (32, 1))] * 3, axis=-1).copy()


def test_paste_changes_nothing_outside_and_blends_inside_only():
    image, crop = gradient(), np.full((32, 32, 3), 255.0, np.float32)
    result = paste(image, crop, MASK, 0.5, match_ring=False)
    assert np.array_equal(result[~MASK], image[~MASK].astype(np.float32))
    assert np.allclose(result[16, 16], 255)
    assert image[8, 8, 0] < result[8, 8, 0] < 255, "the border of the mask is a blend"


def test_feather_is_zero_outside_and_one_in_the_middle():
    weights = feather_inside(MASK, 0.5)
    assert weights[~MASK].max() == 0
    assert weights[16, 16] == 1
    assert 0 < weights[8, 8] < 1
    assert np.array_equal(feather_inside(MASK, 0.0), MASK.astype(float))


def test_what_a_repaint_left_as_it_was_keeps_its_own_pixels():
    image = gradient()
    crop = image.astype(np.float32) + 4
    crop[12:18, 12:18] += 80
    result = paste(image, crop, MASK, 0.0, match_ring=False, least_change=0.06)
    part = changed_part(image, crop, 0.06)
    assert part[12:18, 12:18].all()
    assert part[MASK].mean() < 0.7
    assert np.array_equal(result[~part], image[~part].astype(np.float32))
    assert np.allclose(result[14:16, 14:16], crop[14:16, 14:16])
    assert changed_part(image, crop, 0.0).all(), "off"


def test_a_mask_at_the_pictures_edge_is_not_faded_there():
    edge = np.zeros((32, 32), bool)
    edge[:, :16] = True
    assert feather_inside(edge, 0.5)[16, 0] == 1


def test_ring_match_takes_out_a_tint():
    image = gradient()
    tinted = np.clip(image.astype(np.float32) * 0.8 + [12.0, 20.0, 30.0], 0, 255)
    flat = np.full_like(image, 100)
    matched = paste(flat, np.full((32, 32, 3), (130.0, 90.0, 100.0)), MASK, 0.0, match_ring=True)
    assert np.allclose(matched, 100)
    assert not np.allclose(paste(image, tinted, MASK, 0.0, False)[MASK], image[MASK])


def test_low_frequencies_come_from_the_old_picture():
    image = gradient().astype(np.float32)
    matched = match_low_frequencies(image * 0.5 + 60, image)
    assert np.abs(matched - image)[4:-4, 4:-4].mean() < 0.5 * np.abs(image * 0.5 + 60 - image)[4:-4, 4:-4].mean()


def test_a_change_is_measured_round_every_pixel_and_as_a_share():
    after = gradient().astype(np.float32)
    after[MASK] += 25.5
    change = local_change(gradient(), after)
    assert change.max() == pytest.approx(0.1, abs=1e-4)
    assert change[:4].max() == 0, "far from it nothing changed"
    assert changed_share(gradient(), after) == MASK.mean()
    assert changed_share(gradient(), gradient() + 0.4) == 0, "less than half a level is no change of the picture"


def test_resizing_keeps_what_is_already_right_and_every_masked_pixel():
    image = gradient()
    assert resize(image, 32, 32) is image
    dot = np.zeros((64, 64), bool)
    dot[13, 29] = True
    assert resize_mask(dot, 16, 16)[3, 7]
    assert resize_mask(dot, 16, 16).sum() == 1


def test_fill_continues_the_surroundings():
    image = np.full((32, 32, 3), 90, np.uint8)
    image[MASK] = (255, 0, 0)
    filled = smooth_fill(image, MASK)
    assert np.array_equal(filled[~MASK], image[~MASK])
    assert np.abs(filled[MASK].astype(int) - 90).max() <= 45
    assert np.abs(filled[16, 16].astype(int) - 90).max() <= 2, "nothing of the old content is left"
    assert smooth_fill(image, np.ones_like(MASK)) is image


def test_seeds_tell_everything_apart_and_repeat():
    places = {derive(seed, digest, box) for seed in (1, 2) for digest in "ab" for box in ((0, 0), (0, 1))}
    assert len(places) == 8
    assert derive(1, "a", 2) == derive(1, "a", 2)
    assert pixel_digest(gradient()) != pixel_digest(gradient().transpose(1, 0, 2))


def test_generators_are_drawn_from_once_each():
    one = torch.Generator().manual_seed(5)
    assert image_seeds(one, 2) == [image_seeds(torch.Generator().manual_seed(5), 1)[0]] * 2
    assert image_seeds(None, 1)[0][1] is not None
    with pytest.raises(ConfigError, match="3 generators were given for 2 images"):
        image_seeds([torch.Generator()] * 3, 2)


@pytest.mark.parametrize("strength", [0.1, 0.33, 0.65, 0.95, 1.0])
@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler])
def test_exactly_the_asked_steps_are_chosen(kind, strength):
    timesteps, steps = choose_timesteps(kind(), 10, strength, "cpu")
    assert len(timesteps) == steps == 10
    assert float(timesteps[0]) <= 1000 * strength + 1


@pytest.mark.parametrize("steps", [4, 10, 20])
@pytest.mark.parametrize("strength", [0.3, 0.7, 0.9, 0.99])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (EulerDiscreteScheduler, {"timestep_spacing": "leading"}),
        (EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
        (DPMSolverMultistepScheduler, {}),
        (LCMScheduler, {}),
        (HeunDiscreteScheduler, {}),
    ],
)
def test_a_strength_is_the_same_noise_for_every_scheduler_and_number_of_steps(kind, options, strength, steps):
    scheduler = kind(**options)
    if kind is LCMScheduler and steps > 50 * strength:
        pytest.skip("its schedule of 50 has fewer steps below that strength")
    timesteps, count = choose_timesteps(scheduler, steps, strength, "cpu", "noise")
    assert float(timesteps[0]) == pytest.approx(1000 * strength - 1, abs=20 if kind is LCMScheduler else 1)
    assert count == steps
    assert len(set(timesteps.tolist())) == steps
    latents, noise = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    alpha = scheduler.alphas_cumprod[round(float(timesteps[0]))]
    noisy = scheduler.scale_model_input(scheduler.add_noise(latents, noise, timesteps[:1]), timesteps[0])
    assert float(noisy.mean()) == pytest.approx(float((1 - alpha).sqrt()), abs=1e-3)


@pytest.mark.parametrize(("options", "steps"), [({}, 10), ({"timestep_spacing": "trailing"}, 20)])
def test_a_scheduler_with_its_own_steps_alone_begins_nearest_below(options, steps):
    timesteps, _ = choose_timesteps(DDIMScheduler(**options), steps, 0.9, "cpu", "noise")
    assert len(timesteps) == steps
    assert 820 < timesteps[0] < 900
    karras = EulerDiscreteScheduler(use_karras_sigmas=True)
    timesteps, _ = choose_timesteps(karras, steps, 0.9, "cpu", "noise")
    assert len(timesteps) == steps
    assert timesteps[0] < 900


def test_few_step_schedules_spread_over_the_strength():
    timesteps, _ = choose_timesteps(LCMScheduler(), 4, 0.5, "cpu")
    assert len(timesteps) == 4
    assert timesteps[0] < 520
    with pytest.raises(ConfigError, match="LCMScheduler cannot run 40 steps"):
        choose_timesteps(LCMScheduler(), 40, 0.5, "cpu")


@pytest.mark.parametrize("name", ["default", "paper", "fast", "pq_only", "aq_only", "stage1_only"])
def test_bundled_settings_read(name):
    assert isinstance(read_settings(name), RefineConfig)


def test_settings_split_steps_and_fall_back():
    assert RefineConfig(total_steps=20).steps(asked=True) == (10, 10)
    assert RefineConfig(total_steps=20).steps() == (10, 2), "ten would change nothing that can be seen"
    assert RefineConfig(total_steps=20, delta=0.5).steps() == (10, 10)
    assert RefineConfig(total_steps=7, restorer="none").steps()[0] == 7
    assert RefineConfig(stage1=False, total_steps=6).steps(asked=True) == (0, 6)
    settings = resolve(RefineConfig(), {"guidance_scale": 2.5}, {"total_steps": 4, "guard": None})
    assert (settings.guidance_scale, settings.restorer, settings.total_steps, settings.guard) == (
        2.5,
        "inpaint",
        4,
        True,
    )
    assert resolve(RefineConfig(guidance_scale=3.0), {"guidance_scale": 2.5}, {}).guidance_scale == 3.0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"delta": 1.0}, "delta must be at least 0 and at most 0.99"),
        ({"max_area": 2.0}, "max_area must be at least 0 and at most 1"),
        ({"max_regions": 0}, "max_regions must be at least 1"),
        ({"context": -1.0}, "context must be at least 0"),
        ({"max_upscale": 0.5}, "max_upscale must be at least 1"),
        ({"mask_threshold": 1.5}, "mask_threshold must be at least 0 and at most 1"),
        ({"mask_threshold": "mena"}, "mask_threshold' must be"),
        ({"reading": "papr"}, "reading begins with grefine or paper, .*not 'papr'; did you mean 'paper'"),
        ({"mask_mode": "mean"}, "'mask_mode' is gone: `mask_threshold` takes a value, or `mean`"),
        ({"show_damage": True}, "'show_damage' is gone: it is a property of the UNet now: `unet_traits`"),
        ({"protect": False}, "'protect' is gone: `reading: paper` is the literal chain"),
    ],
)
def test_settings_are_checked(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read_settings(values)


def test_a_removed_key_in_a_file_names_the_line_and_what_replaced_it(tmp_path):
    (tmp_path / "old.yaml").write_text("gate: false\nguard_regions: true\n")
    with pytest.raises(ConfigError, match=r"old\.yaml' line 2: the key 'guard_regions' is gone: it is fixed now"):
        read_settings(tmp_path / "old.yaml")


def test_there_are_few_settings_and_every_removed_one_says_what_replaced_it():
    names = {field.name for field in fields(RefineConfig)}
    assert len(names) <= 24
    assert not names & RefineConfig.REMOVED.keys()
    assert all(sentence.endswith(".") for sentence in RefineConfig.REMOVED.values())


def test_the_literal_chain_shows_a_unet_nothing_and_who_asks_for_steps_gets_them():
    traits = unet_traits({"damage": True, "edited": True, "strength": 0.2, "steps": 2, "least_change": 0.06})
    assert unet_traits(None) == PLAIN
    assert traits_of_call(traits, RefineConfig(reading="paper"), False) == PLAIN
    assert traits_of_call(traits, RefineConfig(), True).steps is None


@pytest.mark.parametrize(("kind", "white"), [(np.bool_, 1), (np.uint8, 1), (np.uint8, 255), (np.float32, 1)], ids=str)
def test_a_mask_is_read_alike_from_an_array_and_a_tensor(kind, white):
    half = np.zeros((8, 8), bool)
    half[:, 4:] = True
    given = (half * white).astype(kind)
    for mask in (given, torch.from_numpy(given)):
        (read,) = read_masks(mask, [Picture(np.zeros((8, 8, 3), np.uint8))])
        assert read.tolist() == half.tolist()
