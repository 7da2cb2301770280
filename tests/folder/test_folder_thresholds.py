"""A pipeline without measured thresholds: it measures them on the folder, or says that the folder is too small."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_world import config, make_folder, random_pipeline, run

from grefine.app.desk import open_desk
from grefine.errors import ConfigError
from grefine.indicators.calibrate import likely_good, split

SETTINGS = {"gate": True, "mask_threshold": None, "total_steps": 1, "max_regions": 1}


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


def test_a_folder_measures_its_own_thresholds_and_keeps_them(pipe, tmp_path):
    source, out, said = make_folder(tmp_path / "in", 51), tmp_path / "out", []
    run(source, out, pipe, settings=config(**SETTINGS), report=said.append)
    notes = [event["text"] for event in said if event["event"] == "note"]
    assert any("measured on 51 of these pictures" in note for note in notes)
    kept = json.loads((out / ".grefine" / "calibration.json").read_text())
    assert kept["made_from"]["self"]
    assert pipe.config.calibration is None, "the pipeline is as it was"
    said.clear()
    run(source, out, pipe, settings=config(**SETTINGS), report=said.append)
    assert any("those that this run measured" in event.get("text", "") for event in said)
    assert json.loads((out / ".grefine" / "calibration.json").read_text()) == kept
    desk = open_desk(source, pipe, out, tmp_path / "plans", config=config(**SETTINGS))
    assert desk.pipe.config.calibration == kept, "the window works by them for as long as it is open"
    del desk
    assert pipe.config.calibration is None


def test_a_small_folder_is_told_what_to_do(pipe, tmp_path):
    source = make_folder(tmp_path / "in", 9)
    with pytest.raises(ConfigError, match=r"9 readable.*50 are needed.*grefine calibrate.*mask_image.*--force"):
        run(source, tmp_path / "out", pipe, settings=config(**SETTINGS))
    run(source, tmp_path / "out", pipe, settings=config(**SETTINGS), force=True)
    assert (tmp_path / "out" / "results.csv").is_file()


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
def test_bad_pictures_are_left_out_whether_few_or_many(share):
    rng = np.random.default_rng(0)
    bad = round(100 * share)
    values = np.concatenate([rng.normal(-8, 1, bad), rng.normal(0, 1, 100 - bad)])
    good = likely_good([values, np.full(100, np.inf)])
    assert not good[:bad].any()
    assert good[bad:].mean() > 0.95


def test_one_group_stays_whole():
    rng = np.random.default_rng(1)
    for values in (rng.normal(size=100), rng.uniform(size=100), np.zeros(100)):
        assert split(values) is None
        assert likely_good([values]).mean() > 0.97
