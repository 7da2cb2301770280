"""The cheap first judge of a run, and images that need a new generation: what is told of them, and where."""

from __future__ import annotations

import csv
import io
import json
import warnings

import numpy as np
import pytest
import torch
from small_world import by_file, config, make_folder, random_pipeline, rows, tree
from test_folder_command import invoke

from grefine.errors import ConfigError
from grefine.evaluate.scoring import steered_by
from grefine.folder.options import FolderOptions
from grefine.folder.progress import silent
from grefine.folder.runner import refine_folder
from grefine.io.images import read_image
from grefine.io.record import read_record
from grefine.models.lar_iqa import LARIQA
from grefine.scorers.prefilter import ScoreGate
from grefine.scorers.resolve import load_scorer
from grefine.types import MetricSpec, Scores


class Darkness:
    """Mean darkness in percent: lower is better. It wants a prompt and no tiny pictures."""

    spec = MetricSpec("darkness", direction="lower", needs_prompt=True, axis="both")

    def __call__(self, images, prompts=None):
        return [Scores({"darkness": 100 - float(np.asarray(i).mean()) / 2.55}) for i in images]


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


def refine(source, out, pipe, gate, **extra):
    options = FolderOptions(batch_size=4)
    return refine_folder(source, out, pipe, config=config(), options=options, gate=gate, **extra)


def test_what_the_gate_finds_good_enough_is_left_alone_without_maps(pipe, tmp_path):
    source = make_folder(tmp_path / "in", 8)
    judged = {
        str(p.relative_to(source)): Darkness()([read_image(p).rgb], [""])[0]["darkness"]
        for p in source.rglob("*")
        if p.suffix != ".txt" and p.is_file()
    }
    bound = sorted(judged.values())[3]
    events = []
    summary = refine(source, tmp_path / "out", pipe, ScoreGate(Darkness(), "darkness", bound), report=events.append)
    assert summary.gated == 4
    assert f"4 passed the gate darkness:{bound:g}" in "\n".join(summary.lines())
    for file, row in by_file(tmp_path / "out").items():
        passed = judged[file] <= bound
        assert row["gate"] == {"value": "darkness", "bound": bound, "score": round(judged[file], 6), "passed": passed}
        assert (tmp_path / "out/.grefine/maps" / f"{file}.quality.png").exists() != passed
        assert ("stages" in row["seconds"]) != passed
        record = read_record(read_image(tmp_path / "out" / file).embedded)
        assert record.gate == f"darkness:{bound:g}"
        if passed:
            assert row["state"] == "untouched"
            assert "The gate darkness" in row["reason"]
            assert "no maps were drawn" in row["reason"]
            assert row["scores"]["before"] == row["scores"]["after"] == {"darkness": round(judged[file], 6)}
            assert read_image(tmp_path / "out" / file).rgb.tobytes() == read_image(source / file).rgb.tobytes()
    assert not [e for e in events if e["event"] == "note" and "perception" in e["text"]]


def test_without_a_gate_no_row_speaks_of_one(pipe, tmp_path):
    source = make_folder(tmp_path / "in", 2)
    summary = refine(source, tmp_path / "out", pipe, None)
    assert summary.gated == 0
    assert not any("gate" in row for row in rows(tmp_path / "out"))


def test_what_the_gate_cannot_judge_is_looked_at_in_full(pipe, tmp_path):
    source = make_folder(tmp_path / "in", 3)
    for path in source.rglob("*.txt"):
        path.unlink()
    refine(source, tmp_path / "out", pipe, ScoreGate(Darkness(), "darkness", 100.0))
    found = by_file(tmp_path / "out")
    for file, row in found.items():
        assert row["gate"]["passed"] == bool(row["prompt"]), file
    mute = next(row for row in found.values() if not row["prompt"])
    assert mute["gate"]["score"] is None
    assert "could not judge it: it needs a prompt" in " ".join(mute["notes"])
    assert "stages" in mute["seconds"]


def test_a_gate_that_sees_perception_only_warns_once(pipe, tmp_path):
    source = make_folder(tmp_path / "in", 6, size=64)
    events = []
    refine(source, tmp_path / "out", pipe, "piqe:0", report=events.append)
    notes = [e["text"] for e in events if e["event"] == "note" and "sees perception only" in e["text"]]
    assert len(notes) == 1
    assert "sees perception only" in (tmp_path / "out/report.html").read_text()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        refine(source, tmp_path / "silent", pipe, "piqe:0", report=silent)
    assert sum("sees perception only" in str(w.message) for w in caught) == 1


def test_another_gate_is_a_changed_setting_and_a_restart_with_the_same_goes_on(pipe, tmp_path):
    source = make_folder(tmp_path / "in", 3, size=64)
    refine(source, tmp_path / "out", pipe, "piqe:30", report=lambda event: None)
    before = tree(tmp_path / "out")
    again = refine(source, tmp_path / "out", pipe, "piqe:30", report=lambda event: None)
    assert again.resumed == 3
    assert tree(tmp_path / "out") == before
    with pytest.raises(ConfigError, match="the gate changed"):
        refine(source, tmp_path / "out", pipe, "piqe:31", report=lambda event: None)
    with pytest.raises(ConfigError, match="the gate changed"):
        refine(source, tmp_path / "out", pipe, None)


def test_a_gate_is_no_evidence_later(pipe, tmp_path):
    source = make_folder(tmp_path / "in", 2, size=64)
    refine(source, tmp_path / "out", pipe, "piqe:0", report=lambda event: None)
    assert steered_by(p for p in (tmp_path / "out").glob("*.png")) == {"piqe"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from components import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def lar(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("lar")
    sizes = {"features": 16, "expanded": 16, "reduced": 8, "whole_size": 32, "crop_size": 48}
    LARIQA(encoder="test_efficientnet", **sizes).save_pretrained(folder)
    return folder


def test_the_option(tiny, lar, tmp_path):
    source = make_folder(tmp_path / "in", 4)
    judge = load_scorer("lar_iqa", lar)
    pictures = [p for p in source.rglob("*") if p.suffix != ".txt" and p.is_file()]
    values = sorted(judge([read_image(p).rgb])[0]["lar_iqa"] for p in pictures)
    gate = f"lar-iqa:{(values[1] + values[2]) / 2:.6f}"
    options = ["--pipeline", tiny, "--gate", gate, "--weights", f"lar_iqa={lar}"]
    done = invoke(source, "-o", tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("sees perception only") == 1
    assert "2 passed the gate lar_iqa:" in done.stdout
    done = invoke(source, "-o", tmp_path / "json", *options, "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(e["event"] == "image" and e["gate"]["passed"] for e in events) == 2
    assert events[-1]["gated"] == 2


@pytest.mark.parametrize(
    ("gate", "match"),
    [
        ("piqe", "takes NAME:VALUE"),
        ("piqe:good", "takes NAME:VALUE"),
        ("piqe:inf", "takes NAME:VALUE"),
        (":3", "takes NAME:VALUE"),
        ("pique:3", "did you mean 'piqe'"),
        ("piqe.sharpness:3", "gives piqe, not"),
        ("mdiqa:0.5", "mdiqa needs"),
        ("cnniqa:0.5", "cnniqa"),
    ],
)
def test_a_wrong_gate_is_one_sentence_before_anything_is_written(tiny, tmp_path, gate, match):
    source = make_folder(tmp_path / "in", 1)
    done = invoke(source, "-o", tmp_path / "out", "--pipeline", tiny, "--gate", gate)
    assert done.exit_code != 0
    assert match in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_images_beyond_repair_have_their_own_state_line_and_word(tiny, tmp_path):
    source = make_folder(tmp_path / "in", 4)
    options = ["-o", tmp_path / "out", "--pipeline", tiny, "--set", "max_area=0.0"]
    done = invoke(source, *options)
    assert done.exit_code == 0, done.output
    found = rows(tmp_path / "out")
    beyond = [row for row in found if row["state"] == "beyond"]
    assert len(beyond) == 4
    assert all("needs a new generation, not a repair" in row["reason"] for row in beyond)
    assert "4 beyond repair" in done.stdout.splitlines()[0]
    assert "4 are beyond repair and should be generated anew" in done.stdout
    assert beyond[0]["file"] in done.stdout
    page = (tmp_path / "out/report.html").read_text()
    assert "beyond repair, needs a new generation <b>4</b>" in page
    assert "4 images came back untouched and should be generated anew" in page
    assert "had nothing to repair" not in page
    lines = csv.DictReader(io.StringIO((tmp_path / "out/results.csv").read_text()))
    assert {line["state"] for line in lines} == {"beyond"}
    assert read_record(read_image(tmp_path / "out" / beyond[0]["file"]).embedded).state == "beyond"
    again = invoke(source, *options)
    assert "4 were already done" in again.stdout


def test_beyond_repair_in_events(tiny, tmp_path):
    source = make_folder(tmp_path / "in", 2)
    done = invoke(source, "-o", tmp_path / "out", "--pipeline", tiny, "--set", "max_area=0.0", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["state"] for e in events if e["event"] == "image"] == ["beyond", "beyond"]
    assert events[-1]["counts"]["beyond"] == 2
