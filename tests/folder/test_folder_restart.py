"""Started again, a run does what is missing, says what failed before, and never takes one picture for another."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from components import pipeline
from small_world import PROMPTS, make_folder, random_pipeline, rows, run, scene, tree

from grefine.errors import ConfigError
from grefine.folder.progress import PlainReporter, silent
from grefine.folder.runner import refine_folder
from grefine.folder.task import pipeline_name, weights_fingerprint
from grefine.io.images import read_image
from grefine.io.record import read_record
from grefine.refine.settings import RefineConfig, settings_digest


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


def folder_of(place, *numbers):
    place.mkdir(parents=True, exist_ok=True)
    for name, number in zip("xyz", numbers, strict=False):
        scene(number).save(place / f"{name}.png")
    return place


def source_of(result):
    return read_record(read_image(result).embedded).source


def fail_on(pipe, monkeypatch, numbers):
    """Let the pipeline run out of memory on some pictures."""
    call, bad = type(pipe).__call__, {scene(number).tobytes() for number in numbers}

    def moody(self, prompt, image, **options):
        if any(one.tobytes() in bad for one in image):
            raise MemoryError("no room")
        return call(self, prompt=prompt, image=image, **options)

    monkeypatch.setattr(type(pipe), "__call__", moody)


FIRST = Path(__file__).parent / "first_edition"
"""A run of the code of 29 November 2026: its pictures and its journal, of which the paths were shortened."""


def first_edition(pipe, out, **settings):
    """Put the journal into an OUT, as if this pipeline had been that of the run; `settings` are others of then."""
    lines = (FIRST / "journal.jsonl").read_text().splitlines()
    start = json.loads(lines[0])
    start["header"]["weights"] = weights_fingerprint(pipe)
    start["header"]["pipeline"] = pipeline_name(pipe)
    start["settings"] |= settings
    (out / ".grefine").mkdir(parents=True)
    (out / ".grefine/journal.jsonl").write_text("\n".join([json.dumps(start), *lines[1:], ""]))
    for path in (FIRST / "in").iterdir():
        (out / path.name).write_bytes(b"what the run made of it")
    return out


def go_on(pipe, out):
    return refine_folder(FIRST / "in", out, pipe, prompt="one red tree", report=silent)


@pytest.fixture(scope="module")
def measured():
    return pipeline()


def test_a_journal_of_the_first_edition_goes_on(measured, tmp_path):
    out = first_edition(measured, tmp_path / "out")
    summary = go_on(measured, out)
    assert (summary.resumed, sum(summary.counts.values())) == (2, 0)
    assert (out / "10_object.png").read_bytes() == b"what the run made of it"
    (out / "10_object.png").unlink()
    assert (go_on(measured, out).resumed, len(rows(out))) == (1, 3)


@pytest.mark.parametrize("then", [{"max_regions": 5}, {"max_change": 0.2}, {"candidates": 4}, {"total_steps": 10}])
def test_a_journal_of_other_settings_does_not_go_on(measured, tmp_path, then):
    """Whether a setting still has its value, is gone, is new, or has another default: the journal holds the values."""
    out = first_edition(measured, tmp_path / "out", **then)
    with pytest.raises(ConfigError, match="other settings: the refinement settings changed"):
        go_on(measured, out)


def test_new_settings_change_no_hash():
    """A setting that is added stands in RefineConfig.NEUTRAL, or every run that was begun before it begins anew."""
    assert settings_digest(asdict(RefineConfig())) == "c5e5a3c1cb5f"


def test_a_broken_input_keeps_failing_and_is_counted(pipe, tmp_path):
    source, out = folder_of(tmp_path / "s"), tmp_path / "o"
    (source / "x.png").write_text("x")
    for before in range(3):
        shown = io.StringIO()
        summary = run(source, out, pipe, report=PlainReporter(shown))
        assert (summary.exit_code, summary.counts["failed"]) == (1, 1)
        assert summary.failed_again == (before > 0)
        said = {0: "", 1: "It failed 1 time before", 2: "It failed 2 times before"}[before]
        assert said in shown.getvalue()
        assert ("before" in shown.getvalue()) == bool(said)


def test_what_ran_out_of_memory_is_done_on_the_next_start(pipe, tmp_path, monkeypatch):
    """Every third one fails; the others keep the company that they would have had, so that every byte is equal."""
    source = make_folder(tmp_path / "in", 13)
    calm = tmp_path / "calm"
    run(source, calm, pipe)
    with monkeypatch.context() as weather:
        fail_on(pipe, weather, (0, 4, 8))
        first = run(source, tmp_path / "out", pipe)
    assert (first.counts["failed"], first.exit_code) == (3, 1)
    with monkeypatch.context() as weather:
        fail_on(pipe, weather, (4,))
        second = run(source, tmp_path / "out", pipe)
    assert (second.counts["failed"], second.failed_again, second.resumed, second.exit_code) == (1, 1, 10, 1)
    third = run(source, tmp_path / "out", pipe)
    assert (third.done, third.failed_again, third.exit_code) == (1, 0, 0)
    assert run(source, tmp_path / "out", pipe).exit_code == 0
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out/results.csv").read_text())))
    assert len(lines) == len({line["file"] for line in lines}) == 13
    assert all(line["state"] != "failed" for line in lines)
    assert set(tree(tmp_path / "out")) == set(tree(calm))


def test_a_second_source_with_the_same_names_is_refused_before_any_work(pipe, tmp_path):
    one, two, out = folder_of(tmp_path / "one", 1, 2), folder_of(tmp_path / "two", 1, 3), tmp_path / "o"
    run(one, out, pipe, prompt=PROMPTS[0])
    before, count = tree(out), len(rows(out))
    with pytest.raises(ConfigError, match=r"other pictures with the same names: 'y\.png'\. Give --overwrite older"):
        run(two, out, pipe, prompt=PROMPTS[0])
    assert (tree(out), len(rows(out))) == (before, count)
    replaced = run(two, out, pipe, prompt=PROMPTS[0], overwrite="older")
    assert (replaced.done, replaced.resumed, replaced.exit_code) == (1, 1, 0)
    assert source_of(out / "y.png") == rows(out)[-1]["input"]["sha256"]
    assert len((out / "results.csv").read_text().splitlines()) == 3


def test_an_input_replaced_in_place_is_noticed_whatever_its_size_and_times(pipe, tmp_path):
    source, out = folder_of(tmp_path / "s", 1), tmp_path / "o"
    scene(1).save(source / "x.bmp")
    (source / "x.png").unlink()
    run(source, out, pipe)
    status = os.stat(source / "x.bmp")
    scene(2).save(source / "x.bmp")
    os.utime(source / "x.bmp", ns=(status.st_atime_ns, status.st_mtime_ns))
    now = os.stat(source / "x.bmp")
    assert (now.st_size, now.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    with pytest.raises(ConfigError, match=r"other pictures with the same names: 'x\.bmp'"):
        run(source, out, pipe)
    assert run(source, out, pipe, overwrite="older").done == 1


def test_the_same_pictures_elsewhere_are_known(pipe, tmp_path):
    source, out = folder_of(tmp_path / "s", 1, 2), tmp_path / "o"
    run(source, out, pipe)
    shutil.copytree(source, tmp_path / "moved")
    again = run(tmp_path / "moved", out, pipe)
    assert (again.resumed, again.exit_code) == (2, 0)
    (source / "x.png").unlink()
    assert run([source / "x.png", source / "y.png"], out, pipe).resumed == 2


def test_a_result_of_another_picture_without_a_journal_is_no_result(pipe, tmp_path):
    one, two, out = folder_of(tmp_path / "one", 1), folder_of(tmp_path / "two", 2), tmp_path / "o"
    run(one, out, pipe)
    shutil.rmtree(out / ".grefine")
    summary = run(two, out, pipe)
    assert (summary.counts["failed"], summary.exit_code) == (1, 1)
    assert run(two, out, pipe).exit_code == 1
    assert run(two, out, pipe, overwrite="always").exit_code == 0


def test_an_input_that_becomes_a_pipe_hangs_nothing(pipe, tmp_path):
    source, out = folder_of(tmp_path / "s", 1), tmp_path / "o"
    run(source, out, pipe)
    (source / "x.png").unlink()
    os.mkfifo(source / "x.png")
    with pytest.raises(ConfigError, match="other pictures"):
        run(source, out, pipe)
