"""Stage 2 sees the whole picture and does no harm: what was good stays as it was unless it got better."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from components import pipeline
from PIL import Image, ImageFilter
from test_pipe_exactness import BAD, bad_place, picture

from grefine.pipeline import GRefinePipeline
from grefine.refine.composite import fade_out, grain
from grefine.types import QualityMap

EXAMPLES = Path(__file__).parents[2] / "examples" / "images"
RIGHT = (slice(None), slice(44, 64))


def blur(image, **_):
    return image.filter(ImageFilter.GaussianBlur(2))


def chequered(by):
    """A restorer that adds levels to every second pixel: what varies slowly is matched to the picture anyway."""

    def restore(image, **_):
        every_second = np.indices((image.height, image.width)).sum(axis=0) % 2
        return Image.fromarray((np.asarray(image) // 2 + 60 + by * every_second[..., None]).astype(np.uint8))

    return restore


def likes_chequers(images):
    """A map that calls the right end dull as long as it is smooth."""
    found = bad_place(images)
    for image, quality in zip(images, found, strict=True):
        rough = np.abs(np.diff(np.asarray(image.convert("L"), np.float32)[RIGHT], axis=1)).mean()
        quality.values[RIGHT] = 1.0 if rough > 20 else 0.8
    return found


def call(pipe, image, **others):
    arguments = {"quality_map": bad_place, "guard": False, "num_inference_steps": 4}
    arguments["generator"] = torch.Generator().manual_seed(1)
    out = pipe(image=image, **arguments | others)
    return np.asarray(out.images[0]), out.results[0]


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def test_a_good_place_that_stage_2_spoils_keeps_its_pixels(pipe):
    image = picture()
    sharp = np.asarray(image)
    spoilt = np.abs(np.asarray(blur(image), int) - sharp).max(axis=2) > 20
    refined, result = call(pipe, image, restorer=blur)
    assert result.decision.kept == "both"
    far = np.ones((64, 64), bool)
    far[4:48, :46] = False  # the mask and the room over which stage 2 fades out
    assert (spoilt & far).any(), "the restorer spoils what is far from the bad place"
    assert np.array_equal(refined[spoilt & far], sharp[spoilt & far])
    painted, _ = call(pipe, image, restorer="none")
    assert not np.array_equal(refined[BAD], painted[BAD]), "what was bad is restored"
    assert result.moved == (refined != sharp).any(axis=2).mean() < 1


def test_a_good_place_that_got_better_is_taken(pipe):
    image = picture()
    settings = {"mask_threshold": 0.5}
    refined, _ = call(pipe, image, restorer=chequered(40), quality_map=likes_chequers, config=settings)
    moved = np.abs(refined.astype(int) - np.asarray(image)).max(axis=2)
    assert (moved[RIGHT] > 5).mean() > 0.8
    assert moved[:, :6].max() == 0, "rougher, but called no better"


def test_what_nobody_sees_may_change_everywhere(pipe):
    def by_one_level(image, **_):
        every_second = np.indices((image.height, image.width)).sum(axis=0) % 2
        return Image.fromarray(np.asarray(image) ^ every_second[..., None].astype(np.uint8))

    refined, result = call(pipe, picture(), restorer=by_one_level)
    moved = np.abs(refined.astype(int) - np.asarray(picture())).max(axis=2)[~result.plan.mask]
    assert moved.max() <= 2
    assert moved.mean() > 0.2


def test_the_seam_is_no_step():
    harmed = np.zeros((64, 64), bool)
    harmed[20:40, 10:30] = True
    weight = fade_out(harmed)
    assert (weight[harmed] == 1).all()
    assert weight[:, 45:].max() == 0
    steepest = max(np.abs(np.diff(weight, axis=axis)).max() for axis in (0, 1))
    assert steepest <= 1 / (2 * grain(harmed)), "it falls over as many pixels as two places lie apart"


def test_the_untouched_cube_of_the_readme_stays_sharp():
    pipe = GRefinePipeline.from_pretrained("tiny")
    pipe.set_progress_bar_config(disable=True)
    with (EXAMPLES / "prompts.csv").open(encoding="utf-8") as file:
        prompt = {row["file"]: row["prompt"] for row in csv.DictReader(file)}["12_missing.png"]
    image = Image.open(EXAMPLES / "12_missing.png").convert("RGB")
    out = pipe(prompt, image, force=True, guard=False)
    result, before = out.results[0], np.asarray(image, int)
    assert result.decision.kept == "both"
    moved = np.abs(np.asarray(out.images[0], int) - before).max(axis=2)
    assert moved[~result.plan.mask].max() <= 8


def test_a_provider_that_judges_only_what_it_was_made_for_is_not_believed(pipe):
    """A map of the original says nothing of the restored picture, but equal maps say that nothing got better."""
    calls = []

    def counting(images):
        calls.append(len(images))
        return [QualityMap(np.ones((i.height, i.width), np.float32), 0.2) for i in images]

    image = picture()
    refined, result = call(pipe, image, restorer=blur, quality_map=counting, config={"gate": False})
    assert not result.plan.regions
    assert calls == [1, 1, 1], "the original, the restored picture, the result"
    spoilt = np.abs(np.asarray(blur(image), int) - np.asarray(image)).max(axis=2) > 20
    assert np.array_equal(refined[spoilt], np.asarray(image)[spoilt])
