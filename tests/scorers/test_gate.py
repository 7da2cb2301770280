"""The cheap first judge: its direction, its warning, and what it refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from grefine.errors import ConfigError, WeightsCorrupt
from grefine.models.lar_iqa import LARIQA
from grefine.scorers.prefilter import read_gate


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lar")
    LARIQA(
        encoder="test_efficientnet", features=16, expanded=16, reduced=8, whole_size=32, crop_size=48
    ).save_pretrained(folder)
    return [f"lar_iqa={folder}"]


def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, high, (64, 64, 3), dtype=np.uint8)) for high in (256, 20)]


def passed(gate):
    return [verdict.passed for verdict in gate.look(pictures(), ["", ""])]


def test_a_gate_follows_the_direction_of_its_metric(weights):
    gate = read_gate("lar_iqa:0", weights)
    values = [scores["lar_iqa"] for scores in gate.scorer(pictures())]
    between = sum(values) / 2
    assert passed(read_gate(f"lar-iqa:{between}", weights)) == [v >= between for v in values]
    lower = [scores["piqe"] for scores in read_gate("piqe:1").scorer(pictures())]
    between = sum(lower) / 2
    assert passed(read_gate(f"piqe:{between}")) == [v <= between for v in lower]
    assert "sees perception only" in gate.warning


@pytest.mark.parametrize("text", ["lar_iqa", "lar_iqa:", ":0.5", "lar_iqa:high", "lar_iqa:nan"])
def test_other_forms_are_refused(text, weights):
    with pytest.raises(ConfigError, match="NAME:VALUE"):
        read_gate(text, weights)


def test_unknown_names_are_refused(weights):
    with pytest.raises(ConfigError, match="did you mean 'lar_iqa'"):
        read_gate("lar_iq:0.5", weights)
    with pytest.raises(ConfigError, match="gives lar_iqa, not"):
        read_gate("lar_iqa.sharpness:0.5", weights)


def test_weights_of_another_geometry_are_told_in_one_sentence(weights, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(weights[0].partition("=")[2], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"features": 24}))
    with pytest.raises(WeightsCorrupt, match="its weights have other shapes than its config.json"):
        read_gate("lar_iqa:0.5", [f"lar_iqa={folder}"])
