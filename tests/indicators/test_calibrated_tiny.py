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
from lab.bench.cases import clean_cases, damaged_cases, misaligned_cases
from lab.world.pictures import pictures_with_captions
from lab.world.render import render
from lab.world.vocabulary import COLOUR_WORDS, NOUN_WORDS

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


def test_a_second_thing_of_the_same_name_is_missing_not_wrong(calibrated):
    maps, _ = calibrated
    cases = clean_cases(64, 292)
    alone = [i for i in range(len(cases)) if cases.scenes.present[i].sum() == 1 and cases.scenes.present[i, 0]]
    noun = [NOUN_WORDS[int(cases.scenes.noun[i, 0])][0] for i in alone]
    colour = [int(cases.scenes.colour[i, 0]) for i in alone]
    words = [(COLOUR_WORDS[c][0], COLOUR_WORDS[(c + 3) % 8][0]) for c in colour]
    prompts = [f"a {there} {n} and a {asked} {n}" for n, (there, asked) in zip(noun, words, strict=True)]
    found = maps.aq([cases.pictures[i] for i in alone], prompts)
    second = [(p, i) for one, i in zip(found, alone, strict=True) for p in one.phrases[1:2] if p.defect]
    assert len(second) > len(alone) / 2
    assert np.mean([p.defect == "noun" for p, _ in second]) > 0.8
    shown = render(cases.scenes).objects[:, 0].numpy()
    assert np.mean([shown[i].flat[p.region.argmax()] for p, i in second if p.defect == "noun"]) < 0.2


def test_a_thing_of_another_name_but_the_asked_look_is_what_is_replaced(calibrated):
    maps, _ = calibrated
    cases = misaligned_cases("object", 48, 293)
    found = zip(maps.aq(cases.pictures, cases.prompts), cases.masks.numpy(), strict=True)
    missing = [(p.region, mask) for one, mask in found for p in one.phrases if p.defect == "noun"]
    hits = [mask.flat[region.argmax()] for region, mask in missing if region is not None]
    assert len(hits) > 24
    assert np.mean(hits) > 0.5, "by chance it would be one in eight"


def test_good_pictures_that_were_not_measured_are_left_alone(calibrated):
    maps, report = calibrated
    alarms = report["false_alarms"]
    assert alarms["share"] <= alarms["expected"] <= ALLOWED
    assert sent(maps, *pictures_with_captions(128, 66_000_017)) <= 2 * ALLOWED


def test_defects_are_still_found(calibrated):
    maps, report = calibrated
    assert report["noun_auc"] > 0.8
    bad = damaged_cases(40, 290)
    assert sent(maps, bad.pictures, bad.prompts) > 0.5
    missing = misaligned_cases("missing", 40, 291)
    assert sent(maps, missing.pictures, missing.prompts) > 0.6


def test_the_self_check_passes(tmp_path):
    for number, (picture, caption) in enumerate(zip(*pictures_with_captions(8, 0), strict=True)):
        picture.save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(caption)
    done = CliRunner().invoke(app, ["selfcheck", "--pipeline", "tiny", "--images", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert [check["passed"] for check in json.loads(done.stdout)] == [True] * 3
