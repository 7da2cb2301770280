"""Scenes, what is drawn of them, and how they are made wrong."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from lab.world.render import render
from lab.world.scene import MISALIGNMENTS, misalign, sample
from lab.world.vocabulary import HELD_OUT_PAIRS


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs_of(scenes):
    return {(int(scenes.noun[i, k]), int(scenes.colour[i, k])) for i, k in scenes.present.nonzero().tolist()}


def test_the_same_seed_gives_the_same_scenes():
    first, second = sample(50, seeded(3)), sample(50, seeded(3))
    assert all(torch.equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    assert not torch.equal(first.x, sample(50, seeded(4)).x)


def test_training_never_shows_a_held_out_pair():
    scenes = sample(2000, seeded())
    assert not pairs_of(scenes) & HELD_OUT_PAIRS
    assert len(pairs_of(scenes)) == 64 - len(HELD_OUT_PAIRS), "every other pair is shown"


def test_held_out_scenes_begin_with_a_held_out_pair():
    scenes = sample(200, seeded(), "held_out")
    first = list(zip(scenes.noun[:, 0].tolist(), scenes.colour[:, 0].tolist(), strict=True))
    assert set(first) == HELD_OUT_PAIRS


def test_objects_lie_inside_and_hardly_overlap():
    scenes = sample(300, seeded(1))
    here = scenes.present
    for centre in (scenes.x, scenes.y):
        assert bool((centre[here] - scenes.radius[here] > 0).all())
        assert bool((centre[here] + scenes.radius[here] < 1).all())
    drawn = render(scenes)
    area = drawn.objects.flatten(2).sum(2)[here]
    assert int(area.min()) > 60, "every object is large enough to be seen"


@pytest.mark.parametrize("kind", MISALIGNMENTS)
def test_a_misalignment_changes_what_it_says_and_no_more(kind):
    scenes = sample(400, seeded(2))
    wrong, slot, possible = misalign(scenes, kind, seeded(5))
    assert bool(possible.any())
    assert not pairs_of(wrong) & HELD_OUT_PAIRS
    allowed = {
        "colour": {"colour"},
        "texture": {"texture"},
        "object": {"noun", "colour"},
        "missing": {"present"},
        "relation": {"x", "y", "radius"},
        "count": {"present"},
    }[kind]
    changed = {f.name for f in fields(scenes) if not torch.equal(getattr(scenes, f.name), getattr(wrong, f.name))}
    assert changed <= allowed, "the background and everything else stay"
    rows = torch.arange(400)
    if kind in ("colour", "texture", "object"):
        name = "noun" if kind == "object" else kind
        before, after = getattr(scenes, name), getattr(wrong, name)
        assert bool((before != after)[rows, slot][possible].all())
        others = torch.ones_like(scenes.present)
        others[rows, slot] = False
        assert torch.equal(before[others], after[others])


def test_pictures_are_in_range_and_masks_are_disjoint():
    drawn = render(sample(20, seeded(7)))
    assert drawn.images.shape == (20, 3, 64, 64)
    assert 0 <= float(drawn.images.min()) <= float(drawn.images.max()) <= 1
    layers = torch.cat([drawn.objects, drawn.ground[:, None], drawn.sky[:, None]], 1)
    assert bool((layers.sum(1) == 1).all()), "every pixel belongs to exactly one thing"


def test_one_scene_alone_looks_as_in_company():
    scenes = sample(6, seeded(8))
    together, alone = render(scenes), render(scenes[[3]])
    assert torch.allclose(together.images[3], alone.images[0], atol=1e-5)
    assert torch.equal(together.objects[3], alone.objects[0])


def test_removing_an_object_changes_only_its_surroundings():
    scenes = sample(40, seeded(9))
    wrong, slot, _ = misalign(scenes, "missing", seeded(1))
    before, after = render(scenes), render(wrong)
    rows = torch.arange(40)
    reach = scenes.radius[rows, slot] * 1.5 * 64
    axis = torch.arange(64) + 0.5
    far_x = (axis[None, :] - scenes.x[rows, slot, None] * 64).abs() > reach[:, None]
    far_y = (axis[None, :] - scenes.y[rows, slot, None] * 64).abs() > reach[:, None]
    far = far_x[:, None, :] | far_y[:, :, None]
    difference = (before.images - after.images).abs().amax(1)
    assert float(difference[far].max()) < 0.01, "no more than the soft end of a shadow"
    assert bool((difference.flatten(1).amax(1) > 0.05).all())


def test_a_larger_rendering_shows_the_same_scene():
    scenes = sample(8, seeded(10))
    small, large = render(scenes, 64).images, render(scenes, 128).images
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert float((small - shrunk).abs().mean()) < 0.05
