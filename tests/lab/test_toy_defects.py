"""Perceptual defects are where their masks say, and as bad as their severity says."""

from __future__ import annotations

import pytest
import torch

from lab.world.defects import MIN_AREA, damage
from lab.world.render import render
from lab.world.scene import sample
from lab.world.vocabulary import DEFECT_KINDS, HELD_OUT_DEFECT

DRAWN = render(sample(64, torch.Generator().manual_seed(21)))
OBJECTS = DRAWN.objects.any(1)


def spoil(kinds=DEFECT_KINDS, seed=0):
    return damage(DRAWN.images, OBJECTS, torch.Generator().manual_seed(seed), kinds)


@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_the_change_is_inside_the_mask(kind):
    spoilt = spoil((kind,))
    change = (spoilt.images - DRAWN.images).abs().mean(1)
    inside = change[spoilt.masks].mean()
    outside = change[~spoilt.masks].mean()
    assert float(inside) > 8 * float(outside)
    assert 0 <= float(spoilt.images.min()) <= float(spoilt.images.max()) <= 1


def test_nearly_every_defect_can_be_seen():
    area = spoil().masks.float().mean((1, 2))
    assert float((area >= MIN_AREA).float().mean()) > 0.95
    assert float(area.mean()) < 0.4


def test_training_never_sees_the_held_out_kind():
    spoilt = damage(DRAWN.images, OBJECTS, torch.Generator().manual_seed(1))
    assert DEFECT_KINDS.index(HELD_OUT_DEFECT) not in spoilt.kinds.tolist()
    assert len(set(spoilt.kinds.tolist())) == len(DEFECT_KINDS) - 1


def test_defects_lie_on_and_off_the_objects():
    spoilt = [spoil(seed=seed) for seed in range(2)]
    on = torch.cat([(s.masks & OBJECTS).sum((1, 2)) / s.masks.sum((1, 2)).clamp(min=1) for s in spoilt])
    assert float((on > 0.5).float().mean()) > 0.1, "some are mostly on objects"
    assert float((on < 0.1).float().mean()) > 0.1, "some do not touch any"


def test_severity_follows_the_visible_change():
    spoilt = spoil()
    total = (spoilt.images - DRAWN.images).abs().mean((1, 2, 3))
    order = torch.corrcoef(torch.stack([spoilt.severity, total]))[0, 1]
    assert float(order) > 0.8


def test_the_same_seed_gives_the_same_damage():
    assert torch.equal(spoil(seed=4).images, spoil(seed=4).images)
    assert not torch.equal(spoil(seed=4).images, spoil(seed=5).images)
