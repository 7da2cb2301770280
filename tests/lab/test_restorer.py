"""A restorer under MDIQA's weights: what is measured, that weights pull where they say, and the command."""

from __future__ import annotations

import json

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from typer.testing import CliRunner

from grefine.errors import ConfigError
from grefine.models.mdiqa import MDIQA, MDIQALoss
from grefine.training.loop import Budget
from lab.cli import app
from lab.judges.mdiqa import MDIQASettings, build
from lab.judges.stream import distort
from lab.restorer import (
    Restorer,
    RestorerSettings,
    compare_weightings,
    parse_weights,
    seen_from_outside,
    spoilt_pairs,
    train_restorer,
)
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


def test_weights_pull_where_they_say(tmp_path):
    """A judge that is right about noise by construction must leave less of it where noise is what counts.

    Sharpness pulls slowly and is measured at length by benchmarks/mdiqa_loss.py.
    """
    found = compare_weightings(
        tmp_path,
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


def test_every_weighting_starts_from_the_same_step_and_resumes(tmp_path):
    accelerator = Accelerator(cpu=True)
    first = train_restorer(tmp_path, "base", SMALL, Budget(steps=3), accelerator)
    chosen = RestorerSettings(**{**vars_of(SMALL), "weights": {"sharpness": 1.0}, "learning_rate": 0.0})
    judge = build(MDIQASettings())
    same = train_restorer(tmp_path, "tuned", chosen, Budget(steps=1), accelerator, judge, tmp_path / "base")
    for a, b in zip(first.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    train_restorer(tmp_path, "base", SMALL, Budget(steps=2), accelerator)
    record = json.loads((tmp_path / "training" / "base.json").read_text())
    assert record["samples"] == 5 * SMALL.batch
    other = RestorerSettings(**{**vars_of(SMALL), "width": 12})
    with pytest.raises(ConfigError, match="was trained with width=16, now it is 12"):
        train_restorer(tmp_path, "base", other, Budget(steps=1), accelerator)
    with pytest.raises(ConfigError, match="needs an MDIQA"):
        train_restorer(tmp_path, "none", chosen, Budget(steps=1), accelerator)
    with pytest.raises(ConfigError, match="before its first evaluation"):
        train_restorer(tmp_path, "short", SMALL, Budget(minutes=1e-9), accelerator)


def test_the_loss_reaches_the_restorer_through_a_real_mdiqa():
    judge = build(MDIQASettings())
    model = Restorer(8, 1)
    _, spoilt = spoilt_pairs(1, 1, 2, SMALL)
    MDIQALoss(judge, {"sharpness": 1.0})(model(spoilt).clamp(0, 1)).backward()
    assert float(model.leave.weight.grad.abs().sum()) > 0
    assert all(p.grad is None for p in judge.parameters())


def test_weights_in_words():
    assert parse_weights("sharpness=1, noisiness=0") == {"sharpness": 1.0, "noisiness": 0.0}
    for text, sentence in (
        ("sharpnes=1", "did you mean 'sharpness'"),
        ("sharpness", "Weights look like"),
        ("sharpness=-1", "from 0 on"),
        ("sharpness=nan", "Weights look like"),
        ("sharpness=0,noisiness=0", "are zero"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            parse_weights(text)


@pytest.mark.slow
def test_the_command(tmp_path):
    build(MDIQASettings()).save_pretrained(tmp_path / "mdiqa")
    given = ["train", "restorer", "--mdiqa", str(tmp_path / "mdiqa"), "-o", str(tmp_path / "out"), "--steps", "2"]
    given += ["--tune", "2", "--device", "cpu", "--json", "--weights", "sharpness=1", "--weights", "noisiness=1"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found) == {"base", "sharpness-1", "noisiness-1", "pairs"}
    assert "sharpness-1 against noisiness-1" in found["pairs"]


def vars_of(settings):
    from dataclasses import asdict

    return asdict(settings)
