"""Grids become maps: tiles cover, fade and add nothing; maps of phrases are drawn only when read."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from tiny_clip import parsed

from grefine.indicators.grids import GridMap, GridPhraseAlignment, tile_boxes
from grefine.types import PhraseAlignment


@pytest.mark.parametrize("size", [(1024, 1024), (1024, 300), (777, 1900), (448, 2000), (4096, 4096)])
def test_tiles_cover_every_pixel_and_overlap(size):
    boxes = tile_boxes(size, 448, 4)
    seen = np.zeros((size[1], size[0]), dtype=int)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        seen[top:bottom, left:right] += 1
    assert seen.min() >= 1
    assert len(boxes) <= 16
    widths = {right - left for left, _, right, _ in boxes}
    assert max(widths) - min(widths) <= 2


def test_small_images_have_no_tiles():
    assert tile_boxes((448, 448), 448, 4) == []
    assert tile_boxes((520, 500), 448, 4) == []
    assert tile_boxes((2048, 2048), 448, 1) == []


def test_equal_tiles_draw_an_even_map():
    """Blending weights add up to one everywhere: seams would show here."""
    boxes = [(0, 0, 1024, 700), *tile_boxes((1024, 700), 448, 4)]
    even = GridMap(tuple((box, np.full((7, 7), 0.3, np.float32)) for box in boxes), (1024, 700))
    np.testing.assert_allclose(even.draw(), 0.3, atol=1e-6)


def test_a_tile_shows_what_the_whole_cannot():
    boxes = tile_boxes((1024, 1024), 448, 4)
    tiles = [(box, np.ones((14, 14), np.float32)) for box in boxes]
    tiles[0][1][3:6, 3:6] = 0.0
    drawn = GridMap((((0, 0, 1024, 1024), np.ones((14, 14), np.float32)), *tiles), (1024, 1024)).draw()
    left, top, right, bottom = boxes[0]
    bad = np.argwhere(drawn < 0.6)
    assert len(bad) > 500
    assert (bad.max(axis=0) < (bottom, right)).all()
    assert drawn[800:, 800:].min() == pytest.approx(1.0)


def test_draw_is_clamped_under_bicubic_overshoot():
    grid = np.zeros((6, 6), np.float32)
    grid[2:4, 2:4] = 1.0
    drawn = GridMap((((0, 0, 60, 60), grid),), (60, 60), "bicubic").draw()
    assert drawn.dtype == np.float32
    assert (drawn.min(), drawn.max()) == (0.0, 1.0)


def test_stretched_reaches_both_ends_and_survives_constants():
    grid = np.linspace(0.2, 0.4, 16, dtype=np.float32).reshape(4, 4)
    stretched = GridMap((((0, 0, 8, 8), grid),), (8, 8)).stretched().patches[0][1]
    assert (stretched.min(), stretched.max()) == (0.0, pytest.approx(1.0))
    flat = GridMap((((0, 0, 8, 8), np.ones((4, 4), np.float32)),), (8, 8)).stretched()
    np.testing.assert_array_equal(flat.draw(), 0.5)


def test_phrase_maps_are_drawn_when_read():
    phrase = parsed(("a ball", "ball", 0)).phrases[0]
    lazy = GridMap((((0, 0, 1024, 1024), np.eye(14, dtype=np.float32)),), (1024, 1024))
    found = GridPhraseAlignment(phrase, 0.2, 0.3, "noun", lazy)  # type: ignore[arg-type]
    assert isinstance(found, PhraseAlignment)
    assert found.region.shape == (1024, 1024)
    assert found.region is not found.region, "nothing full-size is kept"
    assert found.claimed is None
    assert len(pickle.dumps(lazy)) < 4000
    copy = dataclasses.replace(found, defect=None)
    assert copy.defect is None
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).region, found.region)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.a_phs = 1.0


def test_the_best_of_a_map_lies_outside_what_is_claimed():
    box = (0, 0, 4, 4)
    own = GridMap(((box, np.array([[0.4, 0.1], [0.2, 0.3]], np.float32)),), (4, 4))
    claim = GridMap(((box, np.array([[0.9, 0.0], [0.1, 0.0]], np.float32)),), (4, 4))
    free = own.best([claim], 0.5, 3).patches[0][1]
    np.testing.assert_allclose(free, [[0.0, 0.0], [0.125, 1.0]], atol=1e-6)
    everything = GridMap(((box, np.ones((2, 2), np.float32)),), (4, 4))
    assert own.best([everything], 0.5, 3).patches[0][1].max() == 0.0
    assert own.best([], 0.5, 1).patches[0][1].max() == 1.0
