"""What is good stays: bit for bit where that is promised, within a measured bound where stage 2 is global."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from components import MEASURED, pipeline
from PIL import Image

from grefine.types import QualityMap

BAD = (slice(16, 36), slice(10, 34))


def bad_place(images):
    """A person's own heatmap: one bad place, whatever the picture shows."""
    found = []
    for image in images:
        values = np.ones((image.height, image.width), np.float32)
        values[BAD] = 0.1
        found.append(QualityMap(values, 0.6, {}))
    return found


def all_good(images):
    return [QualityMap(np.ones((i.height, i.width), np.float32), 0.95, {}) for i in images]


def picture(height=64, width=64, seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).copy()
    pixels[:8, :8] = (255, 0, 0)  # saturated colours are what VAE round trips lose first
    pixels[-8:, -8:] = (0, 255, 255)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def call(pipe, image, **others):
    arguments = {
        "quality_map": bad_place,
        "guard": False,
        "num_inference_steps": 4,
        "generator": torch.Generator().manual_seed(1),
    }
    out = pipe(image=image, **arguments | others)
    return out.images[0], out.results[0]


@pytest.mark.parametrize("how", [{"restorer": "none"}, {"preserve": "exact"}], ids=str)
def test_good_pixels_are_bit_identical_also_after_twice(pipe, how):
    image = picture()
    first, result = call(pipe, image, **how)
    outside = ~result.plan.mask
    assert result.plan.regions
    assert result.plan.mask[BAD].all()
    second, _ = call(pipe, first, **how)
    for refined in (first, second):
        assert np.array_equal(np.asarray(refined)[outside], np.asarray(image)[outside])
    assert not np.array_equal(np.asarray(first)[result.plan.mask], np.asarray(image)[result.plan.mask])


def test_exact_restores_inside_the_mask(pipe):
    image = picture()
    alone, _ = call(pipe, image, restorer="none", config={"total_steps": 2}, num_inference_steps=None)
    both, result = call(pipe, image, preserve="exact")
    assert result.decision.kept == "both"
    assert not np.array_equal(np.asarray(alone), np.asarray(both))


@pytest.mark.parametrize("preserve", ["paper", "exact"])
def test_clean_image_comes_back_untouched_without_denoising(pipe, monkeypatch, preserve):
    def never(*args, **kwargs):
        raise AssertionError("the UNet ran on a clean image")

    monkeypatch.setattr(pipe.unet, "forward", never)
    pipe.register_to_config(calibration=MEASURED | {"p_gate": 0.5})
    image = picture()
    refined, result = call(pipe, image, quality_map=all_good, guard=True, preserve=preserve)
    pipe.register_to_config(calibration=MEASURED)
    assert refined is image
    assert result.decision.kept == "original"
    assert not result.plan.regions


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 100), (33, 21), (130, 90)])
def test_any_size_keeps_its_size_and_its_good_pixels(pipe, height, width):
    image = picture(max(height, 33), max(width, 20)).resize((width, height))
    refined, result = call(pipe, image, preserve="exact", config={"max_area": 1.0})
    assert refined.size == image.size
    outside = ~result.plan.mask
    assert np.array_equal(np.asarray(refined)[outside], np.asarray(image)[outside])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_outputs_have_the_inputs_mode_alpha_and_profile(pipe, mode):
    image = picture().convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize((64, 64)))
    image.info["icc_profile"] = b"a profile"
    refined, result = call(pipe, image, preserve="exact")
    assert refined.mode == mode
    assert refined.info["icc_profile"] == b"a profile"
    outside = ~result.plan.mask
    assert np.array_equal(np.asarray(refined)[outside], np.asarray(image)[outside])
    if mode.endswith("A"):
        assert np.array_equal(np.asarray(refined)[..., -1], np.asarray(image)[..., -1])


def test_user_mask_decides_where(pipe):
    image = picture()
    mask = np.zeros((64, 64), bool)
    mask[40:60, 40:60] = True
    refined, result = call(pipe, image, mask_image=Image.fromarray(mask), restorer="none")
    assert np.array_equal(result.plan.mask, mask)
    assert result.plan.regions[0].kind == "user"
    changed = (np.asarray(refined) != np.asarray(image)).any(axis=-1)
    assert changed[mask].mean() > 0.5
    assert not changed[~mask].any()


def test_plan_only_changes_nothing_and_tells(pipe):
    image = picture()
    refined, result = call(pipe, image, plan_only=True)
    assert refined is image
    assert result.plan.regions
    assert result.decision.reason == "Only planned, as asked."
    words = pipe.explain(image=image, quality_map=bad_place)
    assert "1 region" in words
    assert "strength" in words
    assert "Memory: weights" in words
