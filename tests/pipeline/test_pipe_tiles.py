"""Stage 2 on large pictures: few tiles, and nothing of their borders to be seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from components import pipeline
from PIL import Image
from test_pipe_exactness import bad_place, call, picture

from grefine.pipeline import GRefinePipeline
from grefine.refine import composite
from grefine.refine.composite import join_tiles
from grefine.refine.painters.protocol import batch_limit
from grefine.refine.regions import LARGEST_PASS, LONGEST_PASS, OVERLAP, tile_boxes
from grefine.types import QualityMap

WORKING, MULTIPLE = 64, 8


@pytest.mark.parametrize("size", [(20, 64), (128, 128), (85, 192), (64, 150)])
def test_what_one_pass_holds_is_one_tile(size):
    assert tile_boxes(*size, WORKING, MULTIPLE) == [(0, 0, size[1], size[0])]


@pytest.mark.parametrize("size", [(129, 129), (150, 160), (40, 200), (256, 256), (511, 300), (100, 1000)])
def test_tiles_cover_overlap_and_fit_a_pass(size):
    boxes = tile_boxes(*size, WORKING, MULTIPLE)
    sizes = {(bottom - top, right - left) for left, top, right, bottom in boxes}
    assert len(sizes) == 1, "equal tiles are denoised together"
    tile = sizes.pop()
    assert tile[0] * tile[1] <= (LARGEST_PASS * WORKING) ** 2
    assert max(tile) <= LONGEST_PASS * WORKING
    for length, side, edges in zip(size, tile, ([b[1::2] for b in boxes], [b[::2] for b in boxes]), strict=True):
        ranges = sorted(set(edges))
        assert (ranges[0][0], ranges[-1][1]) == (0, length)
        assert side == length or (side % MULTIPLE == 0 and side >= WORKING)
        assert all(a[1] - b[0] >= math.floor(OVERLAP * WORKING) for a, b in zip(ranges, ranges[1:], strict=False))


@pytest.mark.parametrize(("side", "most"), [(129, 1.3), (160, 1.2), (192, 1.3), (256, 1.3), (512, 1.2)])
def test_tiles_cost_little_more_than_the_frame(side, most):
    boxes = tile_boxes(side, side, WORKING, MULTIPLE)
    denoised = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    assert side**2 < denoised <= most * side**2


def test_a_batch_holds_no_more_than_its_room():
    assert batch_limit((64, 64), 4, 8 * 64 * 64) == 4
    assert batch_limit((96, 96), 4, 8 * 64 * 64) == 3
    assert batch_limit((128, 128), 4, 8 * 64 * 64) == 2
    assert batch_limit((512, 512), 4, 8 * 64 * 64) == 1


def test_tiles_of_one_picture_give_that_picture():
    image = np.random.default_rng(0).uniform(0, 255, (200, 150, 3)).astype(np.float32)
    boxes = tile_boxes(200, 150, WORKING, MULTIPLE)
    assert len(boxes) > 1
    joined = join_tiles(image.shape, [(box, image[box[1] : box[3], box[0] : box[2]]) for box in boxes])
    assert np.allclose(joined, image, atol=1e-3)


def test_neighbours_that_disagree_fade_into_each_other():
    boxes = tile_boxes(64, 256, WORKING, MULTIPLE)
    flat = [(box, np.full((64, box[2] - box[0], 3), 100.0 * (i % 2), np.float32)) for i, box in enumerate(boxes)]
    joined = join_tiles((64, 256, 3), flat)
    steepest = np.abs(np.diff(joined, axis=1)).max()
    assert joined.min() == 0
    assert joined.max() == 100
    assert steepest <= 1.5 * 100 / (OVERLAP * WORKING)


def all_bad(images):
    return [QualityMap(np.zeros((image.height, image.width), np.float32), 0.0) for image in images]


def seam(pipe, monkeypatch, ramp):
    """Restore a large smooth picture; return how much more the change jumps at tiles' borders than at other cells'."""
    monkeypatch.setattr(composite, "RAMP", ramp)
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    image = small.resize((256, 160), Image.Resampling.BICUBIC)
    everything = {"stage1": False, "gate": False, "use_aq": False}
    refined, result = call(
        pipe, image, config=everything, prompt="a red ball on green grass", force=True, quality_map=all_bad
    )
    assert result.decision.kept == "restored"
    change = np.asarray(refined, np.float64) - np.asarray(image)
    jumps = np.abs(np.diff(change, axis=1)).mean(axis=(0, 2))
    cells = range(pipe.vae_scale_factor - 1, 255, pipe.vae_scale_factor)
    boxes = tile_boxes(160, 256, WORKING, MULTIPLE)
    borders = {edge - 1 for left, _, right, _ in boxes for edge in (left, right)} - {-1, 255}
    assert borders <= set(cells)
    return jumps[sorted(borders)].mean() / jumps[[cell for cell in cells if cell not in borders]].mean()


def test_borders_of_tiles_do_not_show(monkeypatch):
    pipe = GRefinePipeline.from_pretrained("tiny")
    pipe.set_progress_bar_config(disable=True)
    faded, abutting = seam(pipe, monkeypatch, composite.RAMP), seam(pipe, monkeypatch, 1e-9)
    assert faded < 1.5
    assert abutting > 1.5 * faded, "the measure sees a seam where there is one"


def test_a_large_picture_is_restored_in_tiles():
    image = picture(200, 150)
    refined, result = call(pipeline(), image, restorer=lambda image, **_: image)
    outside = ~result.plan.mask
    assert result.decision.kept == "both"
    assert np.array_equal(np.asarray(refined)[outside], np.asarray(image)[outside]), "an identity restorer, in tiles"


def test_a_wide_place_is_repainted_in_one_crop():
    pipe, image = pipeline(), picture(200, 150)
    side = pipe.working_side + 12
    mask = Image.new("L", image.size, 0)
    mask.paste(255, (40, 30, 40 + side, 30 + side))
    refined, result = call(pipe, image, mask_image=mask, restorer="none")
    assert len(result.plan.regions) == 1
    changed = (np.asarray(refined) != np.asarray(image)).any(axis=2)
    assert changed[result.plan.mask].mean() > 0.5
    assert not changed[~result.plan.mask].any()


@pytest.mark.parametrize(("wider", "batches"), [(0, 1), (12, 2)])
def test_wide_crops_share_the_room_of_ordinary_ones(wider, batches):
    pipe, counted = pipeline(), []

    def count(pipe, index, timestep, tensors):
        counted.append(tensors["stage"])
        return {}

    image, side = picture(200, 150), pipe.working_side + wider
    mask = Image.new("L", image.size, 0)
    mask.paste(255, (40, 30, 40 + side, 30 + side))
    pipe(
        prompt=["a red ball"] * 2, image=[image] * 2, mask_image=[mask] * 2, restorer="none", num_inference_steps=4,
        config={"batch_size": 2}, generator=torch.Generator().manual_seed(0), callback_on_step_end=count,
    )  # fmt: skip
    assert len(counted) == pipe.num_timesteps == batches * 4


def test_every_step_of_a_large_picture_is_counted():
    pipe, counted = pipeline(), []

    def count(pipe, index, timestep, tensors):
        counted.append(tensors["stage"])
        return {}

    call(
        pipe, picture(256, 192), quality_map=bad_place, num_inference_steps=4,
        callback_on_step_end=count,
    )  # fmt: skip
    assert counted.count("restore") > 2
    assert len(counted) == pipe.num_timesteps
