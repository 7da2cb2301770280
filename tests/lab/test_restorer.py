"""A restorer under MDIQA's weights: what is measured, and that weights pull where they say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from grefine.models.mdiqa import MDIQA, MDIQALoss
from grefine.training.loop import Budget
from lab.judges.mdiqa import build
from lab.judges.stream import distort
from lab.restorer import Restorer, RestorerSettings, compare_weightings, seen_from_outside, spoilt_pairs, trained
from lab.world.stream import generator

SMALL = RestorerSettings(width=16, blocks=2, batch=8, loss_weight=1.0)


class Known(MDIQA):
    """Right by construction: sharpness is the gradient of the softened picture, noise what softening takes away."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.register_to_config(minimum=8, resize=None)
        self.gain = nn.Parameter(torch.ones(()))

    def score(self, image, dimensions=("sharpness", "noisiness")):
        from grefine.models.mdiqa import MDIQAOutput

        soft = torch.nn.functional.avg_pool2d(image * self.gain, 3, 1)
        sharp = (soft[..., 1:] - soft[..., :-1]).abs().mean((1, 2, 3))
        grain = (image[..., 1:-1, 1:-1] - soft).abs().mean((1, 2, 3))
        return MDIQAOutput({name: {"sharpness": 6 * sharp, "noisiness": 1 - 6 * grain}[name] for name in dimensions})


def test_a_new_restorer_changes_nothing_and_is_small():
    model = Restorer()
    images = torch.rand(2, 3, 20, 24)
    assert torch.equal(model(images), images)
    assert 50_000 < sum(p.numel() for p in model.parameters()) < 100_000


def test_what_is_seen_from_outside_follows_blur_and_noise():
    """The formulas are checked on pictures whose blur and noise are known."""
    clean, spoilt = spoilt_pairs(9_000_011, 0, 16, SMALL)
    assert (clean - spoilt).abs().mean() > 0.01

    def measured(images):
        found = seen_from_outside(lambda _: images, SMALL, 16)
        return {key: float(value.mean()) for key, value in found.items()}

    whole = torch.ones(16)
    truth = measured(clean)
    soft = measured(distort(clean, "sharpness", 0.6 * whole, generator(1, 1)))
    grainy = measured(distort(clean, "noisiness", 0.3 * whole, generator(1, 2)))
    assert truth["edges"] == pytest.approx(1.0)
    assert truth["error"] == 0
    assert soft["edges"] < 0.8
    assert soft["noise"] < grainy["noise"] / 3
    assert grainy["noise"] > 3 * truth["noise"]
    assert grainy["edges"] == pytest.approx(1.0, abs=0.05), "noise does not count as sharpness"


def test_weights_pull_where_they_say():
    """A judge that is right about noise by construction must leave less of it where noise is what counts.

    Sharpness pulls slowly and is measured at length by benchmarks/mdiqa_loss.py.
    """
    found = compare_weightings(
        {"sharp": {"sharpness": 1.0, "noisiness": 0.0}, "calm": {"sharpness": 0.0, "noisiness": 1.0}},
        Known(),
        base=Budget(steps=3),
        tuned=Budget(steps=14),
        settings=SMALL,
        count=16,
    )
    assert found["sharp"]["noise"] > found["calm"]["noise"]
    assert found["calm"]["noise"] < found["base"]["noise"]
    pair = found["pairs"]["sharp against calm"]
    assert pair["noisier"]["low"] > 0.5
    assert pair["sharper"]["n"] == 16


def test_every_weighting_starts_from_the_same_step():
    judge = build()
    first = trained(SMALL, None, Budget(steps=3), judge)
    same = trained(replace(SMALL, learning_rate=0.0), {"sharpness": 1.0}, Budget(steps=1), judge, first)
    assert same is not first
    for a, b in zip(first.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_loss_reaches_the_restorer_through_a_real_mdiqa():
    judge = build()
    model = Restorer(8, 1)
    _, spoilt = spoilt_pairs(1, 1, 2, SMALL)
    MDIQALoss(judge, {"sharpness": 1.0})(model(spoilt).clamp(0, 1)).backward()
    assert float(model.leave.weight.grad.abs().sum()) > 0
    assert all(p.grad is None for p in judge.parameters())
