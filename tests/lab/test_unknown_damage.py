"""Damage of no known kind: inside the known places, of every sort, and never the benchmark's held-out kind."""

from __future__ import annotations

import torch

from lab.world import defects
from lab.world.defects import damage, with_unknown_damage
from lab.world.render import render
from lab.world.scene import sample

DRAWN = render(sample(96, torch.Generator().manual_seed(3)))
FIRST = damage(DRAWN.images, DRAWN.objects.any(1), torch.Generator().manual_seed(4))


def test_a_share_is_spoilt_further_and_only_where_it_was():
    again = with_unknown_damage(FIRST, torch.Generator().manual_seed(5))
    change = (again.images - FIRST.images).abs().amax(1)
    near = torch.nn.functional.max_pool2d(FIRST.masks[:, None].float(), 3, 1, 1)[:, 0] > 0
    assert float(change[~near].max()) == 0
    touched = (change.flatten(1).amax(1) > 0.02).float().mean()
    assert 0.12 < float(touched) < 0.45
    assert 0 <= float(again.images.min()) <= float(again.images.max()) <= 1
    assert torch.equal(again.images, with_unknown_damage(FIRST, torch.Generator().manual_seed(5)).images)


def test_every_sort_changes_pictures_visibly():
    for change in set(defects._STRANGE):
        moved = (change(DRAWN.images, torch.Generator().manual_seed(6)) - DRAWN.images).abs().mean((1, 2, 3))
        assert float(moved.mean()) > 0.015, change.__name__


def test_the_second_kind_is_one_that_training_knows(monkeypatch):
    kinds = []
    monkeypatch.setattr(defects, "spoil", lambda images, chosen, *_: kinds.extend(chosen) or images)
    with_unknown_damage(FIRST, torch.Generator().manual_seed(7))
    assert kinds
    assert "smear" not in kinds
