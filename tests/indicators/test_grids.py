"""Grids become maps: tiles cover, fade and add nothing; maps of phrases are drawn only when read."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from tiny_clip import parsed

from grefine.indicators.grids import GridMap, GridPhraseAlignment, Place, resize, tile_boxes
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


def test_a_missing_thing_gets_one_free_place():
    box, values = (0, 0, 80, 80), np.zeros((8, 8), np.float32)
    values[1:3, 1:3], values[5:7, 5:7] = 1.0, 0.8
    own = GridMap(((box, values),), (80, 80))
    place = own.one_place([], 0.5, 0.18).draw()
    assert place[20, 20] > 0.6
    assert place[60, 60] == 0.0
    claim = np.zeros((8, 8), np.float32)
    claim[:4, :4] = 1.0
    moved = own.one_place([GridMap(((box, claim),), (80, 80))], 0.5, 0.18)
    assert moved.draw()[60, 60] > 0.6
    assert moved.patches[0][1][:4, :4].max() == 0.0
    everything = GridMap(((box, np.ones_like(values)),), (80, 80))
    assert own.one_place([everything], 0.5, 0.18).draw().max() == 0.0


def test_a_place_is_as_large_as_what_is_seen_there_or_as_what_is_seen_elsewhere():
    box, shape = (0, 0, 80, 80), (32, 32)
    areas = []
    for side in (6, 10):
        look, claim = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        look[4 : 4 + side, 4 : 4 + side] = claim[20 : 20 + side, 20 : 20 + side] = 1.0
        for values, claims in ((look, []), (np.zeros(shape, np.float32), [GridMap(((box, claim),), (80, 80))])):
            areas.append((GridMap(((box, values),), (80, 80)).one_place(claims, 0.5, 0.18).draw() > 0.5).mean())
    assert areas[0] < 0.5 * areas[2]
    assert areas[1] < 0.5 * areas[3]


def test_what_looks_no_more_like_it_than_like_the_ground_is_no_thing():
    box = (0, 0, 80, 80)
    look, ground = np.full((16, 16), 0.6, np.float32), np.full((16, 16), 0.6, np.float32)
    look[2, 2] = 0.9
    kept = GridMap(((box, look),), (80, 80)).beyond(GridMap(((box, ground),), (80, 80)), 0.85).patches[0][1]
    assert np.argwhere(kept > 0).tolist() == [[2, 2]]


def test_where_nothing_looks_like_it_a_thing_goes_where_there_is_room():
    box = (0, 0, 80, 80)
    faint = np.full((8, 8), 0.01, np.float32)
    faint[4, 0] = 0.3  # beside the claim, where there is no room
    claim = np.zeros((8, 8), np.float32)
    claim[:, 1:3] = 1.0
    claims = [GridMap(((box, claim),), (80, 80))]
    place = GridMap(((box, faint),), (80, 80)).one_place(claims, 0.5, 0.18).draw()
    assert np.unravel_index(place.argmax(), place.shape)[1] > 45
    faint[4, 0] = 0.8
    assert GridMap(((box, faint),), (80, 80)).one_place(claims, 0.5, 0.18).draw()[45, 5] > 0.5, "this looks like it"


def test_the_blurred_rim_of_a_thing_of_its_colour_is_no_place_round_that_thing():
    box = (0, 0, 90, 90)
    look, claim = np.zeros((9, 9), np.float32), np.zeros((9, 9), np.float32)
    look[2:7, 2:7] = 0.7
    claim[3:6, 3:6] = 0.9
    place = GridMap(((box, look),), (90, 90)).one_place([GridMap(((box, claim),), (90, 90))], 0.5, 0.28).draw()
    rows, columns = np.nonzero(place > 0.5)
    assert np.hypot(rows.mean() - 45, columns.mean() - 45) > 10


def test_a_claim_keeps_the_areas_that_touch_its_host():
    box = (0, 0, 80, 80)
    stripes, cone, far = (np.zeros((8, 8), np.float32) for _ in range(3))
    stripes[1:3, 1:4] = 0.9
    stripes[5:7, 5:8] = 0.8  # another striped thing
    stripes[7, 0] = 0.2
    cone[3, 4], far[4, 0] = 1.0, 1.0  # beside a corner; beside nothing

    def drawn(values):
        return GridMap(((box, values),), (80, 80))

    kept = drawn(stripes).touching(drawn(cone), 0.5).patches[0][1]
    assert kept[1:3, 1:4].min() == np.float32(0.9)
    assert kept[5:7, 5:8].max() == 0.0
    assert kept[7, 0] == np.float32(0.2), "what claims nothing stays"
    assert np.array_equal(drawn(stripes).touching(drawn(far), 0.5).patches[0][1], stripes)
    assert drawn(stripes).outside(drawn(stripes), 0.85).patches[0][1].max() == np.float32(0.8)


def test_a_map_is_drawn_as_its_pieces_would_be_and_its_mean_needs_no_drawing() -> None:
    draw, size = np.random.default_rng(3), (700, 900)
    boxes = [(0, 0, *size), *tile_boxes(size, 256, 4)]
    found = GridMap(tuple((box, draw.random((7, 7)).astype(np.float32)) for box in boxes), size)
    total, weights = np.zeros(size[::-1]), np.zeros(size[::-1])
    for (left, top, right, bottom), grid in found.patches[1:]:
        ramps = [np.minimum(np.arange(n), np.arange(n)[::-1]) + 1.0 for n in (bottom - top, right - left)]
        ramp = np.outer(*(np.minimum(one / (0.25 * len(one)), 1.0) for one in ramps))
        total[top:bottom, left:right] += ramp * resize(grid, bottom - top, right - left, "bilinear")
        weights[top:bottom, left:right] += ramp
    whole = resize(found.patches[0][1], size[1], size[0], "bilinear")
    np.testing.assert_allclose(found.draw(), 0.5 * whole + 0.5 * total / weights, atol=1e-5)
    mask = np.zeros(size[::-1], bool)
    mask[100:333, 40:90] = mask[500:510, 600:] = True
    assert Place(mask).mean(found) == pytest.approx(float(found.draw()[mask].mean()), abs=1e-5)


def test_a_thing_that_is_asked_for_on_something_gets_a_place_with_its_foot_on_it():
    look, ground = np.full((8, 8), 0.1, np.float32), np.zeros((8, 8), np.float32)
    look[1, 4], ground[5:] = 0.3, 1.0
    look, ground = (GridMap((((0, 0, 64, 64), grid),), (64, 64)) for grid in (look, ground))
    floating = look.one_place([], 0.5, 0.18).draw().argmax() // 64
    standing = look.one_place([], 0.5, 0.18, ground).draw().argmax() // 64
    assert floating < standing
    assert standing + 0.18 * 64 >= 5 * 8
