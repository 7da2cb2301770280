"""The changes that nobody sees: each stays above 40 dB on every picture, or is left out there."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from grefine.scorers.fidelity import psnr
from grefine.scorers.noise import INVISIBLE, PROBES, disturbed, measure_noise, metric_width
from grefine.types import MetricSpec

EXAMPLES = sorted((Path(__file__).parents[2] / "examples/images").glob("*.png"))


def smooth(side=64):
    rows, columns = np.mgrid[:side, :side]
    return np.stack([rows + 40, columns + 80, (rows + columns) // 2], axis=2).astype(np.uint8)


def edges(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (48, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_change_of_an_example_is_one_that_nobody_sees(path):
    picture = np.asarray(Image.open(path).convert("RGB"))
    variants = disturbed(picture)
    assert variants
    for variant in variants:
        assert variant.shape == picture.shape
        assert INVISIBLE < psnr(variant, picture) < 100


def test_what_would_be_seen_is_left_out_and_one_level_of_noise_remains():
    assert [name for name, probe in PROBES.items() if probe(smooth()) is not None] == ["moved", "jpeg", "rounded"]
    assert [name for name, probe in PROBES.items() if probe(edges()) is not None] == ["rounded"]
    assert np.abs(disturbed(edges())[0].astype(int) - edges()).max() == 1


def test_a_picture_moves_by_a_pixel_or_by_half_of_one():
    moved = PROBES["moved"](smooth())
    assert np.array_equal(moved[1:, 1:], smooth()[:-1, :-1])
    steeper = np.repeat((4 * np.arange(60)).astype(np.uint8)[None, :, None], 60, axis=0).repeat(3, axis=2)
    half = PROBES["moved"](steeper)
    assert (half[:, 2:-2].astype(int) - steeper[:, 2:-2] == -2).all(), "half of four levels a pixel"


def test_saving_keeps_colours_whole():
    stripes = smooth()
    stripes[:, ::2, 0] += 60
    assert PROBES["jpeg"](stripes) is not None
    with_small_chroma = Image.fromarray(stripes)
    out = io.BytesIO()
    with_small_chroma.save(out, "JPEG", quality=95)
    assert psnr(np.asarray(Image.open(out)), stripes) < INVISIBLE


def test_noise_is_the_largest_move_and_ranges_without_end_count_by_the_score():
    assert measure_noise({"a": 0.5}, [{"a": 0.48}, {"a": 0.51}]) == {"a": pytest.approx(0.02)}
    assert metric_width(MetricSpec("bounded", range=(1.0, 5.0)), 3.0) == 4.0
    assert metric_width(MetricSpec("open", range=(-np.inf, np.inf)), 0.3) == 1.0
    assert metric_width(MetricSpec("open", range=(-np.inf, np.inf)), -40.0) == 40.0
    assert metric_width(MetricSpec("unstated"), 50.0) == 50.0
