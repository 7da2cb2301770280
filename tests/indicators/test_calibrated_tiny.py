"""Calibration and self-check on the trained pipeline, by their commands: what it promises holds for other pictures."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.indicators.calibration import needs_repair
from grefine.indicators.load import load_maps
from grefine.toyworld.benchmark.cases import damaged_cases, misaligned_cases
from grefine.toyworld.pictures import pictures_with_captions

ALLOWED = 0.06


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """The maps of tiny with a calibration that the command made of 160 scenes, and its report."""
    folder = tmp_path_factory.mktemp("calibrated")
    pictures, captions = pictures_with_captions(160, 66_000_013)
    with (folder / "prompts.csv").open("w", newline="") as sink:
        table = csv.writer(sink)
        table.writerow(["file", "prompt"])
        for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            picture.save(folder / f"{number:03d}.png")
            table.writerow([f"{number:03d}.png", caption])
    file = folder / "calibration.json"
    given = ["calibrate", "--pipeline", "tiny", "--images", folder, "--prompts", folder / "prompts.csv", "--out", file]
    done = CliRunner().invoke(app, [str(a) for a in (*given, "--false-alarms", ALLOWED)])
    assert done.exit_code == 0, done.output
    return load_maps("tiny", calibration=file), json.loads(done.stdout)["report"]


def sent(maps, pictures, prompts):
    """Return the share that the gates send to a repair."""
    encoding = maps.pq.encode(pictures)
    pairs = zip(maps.pq(pictures, encoding), maps.aq(pictures, prompts, encoding), strict=True)
    return np.mean([needs_repair(quality, alignment, maps.calibration)[0] for quality, alignment in pairs])


def test_good_pictures_that_were_not_measured_are_left_alone(calibrated):
    maps, report = calibrated
    alarms = report["false_alarms"]
    assert alarms["share"] <= alarms["expected"] <= ALLOWED
    assert sent(maps, *pictures_with_captions(128, 66_000_017)) <= 2 * ALLOWED


def test_defects_are_still_found(calibrated):
    maps, report = calibrated
    assert report["phrases"]["noun_auc"] > 0.8
    bad = damaged_cases(40, 290)
    assert sent(maps, bad.pictures, bad.prompts) > 0.5
    missing = misaligned_cases("missing", 40, 291)
    assert sent(maps, missing.pictures, missing.prompts) > 0.6


def test_the_self_check_passes():
    done = CliRunner().invoke(app, ["selfcheck", "--count", "8", "--json"])
    assert done.exit_code == 0, done.output
    assert [check["passed"] for check in json.loads(done.stdout)] == [True] * 3
