"""`grefine refine` as it is typed: options, exit codes, what goes to which stream."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_world import make_folder, rows, tree
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ConfigError, ImageError
from grefine.io.images import read_image
from grefine.io.record import read_record
from grefine.refine.settings import changed_settings

SETTINGS = ["gate=false", "use_aq=false", "mask_threshold=mean", "max_area=0.6", "max_regions=1", "total_steps=2"]
SETTINGS += ["guard=false", "restorer=none"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from components import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


def invoke(*arguments):
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    return CliRunner().invoke(app, ["refine", *options, *map(str, arguments)])


def test_a_folder(tiny, tmp_path):
    source = make_folder(tmp_path / "in", 5)
    (source / "bad.png").write_text("no picture")
    out = tmp_path / "out"
    done = invoke(source, "-o", out, "--pipeline", tiny, "--batch-size", 3)
    assert done.exit_code == 1, done.output
    assert "refined" in done.stdout
    assert "1 failed" in done.stdout
    assert "bad.png" in done.stderr
    assert "bad.png" not in done.stdout
    assert len(rows(out)) == 6
    page = (out / "report.html").read_text()
    assert "0000.png" in page
    assert "bad.png" in page
    again = invoke(source, "-o", out, "--pipeline", tiny, "--batch-size", 3)
    assert again.exit_code == 1
    assert "5 were already done" in again.stdout
    assert "1 of the failed ones had failed before" in again.stdout


def test_events_as_json(tiny, tmp_path):
    source = make_folder(tmp_path / "in", 2)
    done = invoke(
        source / "0000.png", "-o", tmp_path / "out", "--pipeline", tiny, "--json", "--no-panels", "--no-report"
    )
    assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["event"] for e in events if e["event"] != "note"][0] == "start"
    assert events[-1]["event"] == "end"
    assert events[-1]["exit_code"] == 0
    assert [e["file"] for e in events if e["event"] == "image"] == ["0000.png"]
    assert set(tree(tmp_path / "out")) == {"0000.png", "results.csv"}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--set", "total_step=3"], "unknown key 'total_step'; did you mean 'total_steps'"),
        (["--set", "total_steps"], "not KEY=VALUE"),
        (["--set", "total_steps=many"], "must be a whole number"),
        (["--overwrite", "sometimes"], "must be one of never, older, always"),
        (["--format", "tiff"], "must be one of same, png"),
        (["--preserve", "nothing"], "must be one of paper, exact"),
        (["--prompts", "missing.csv"], "missing.csv' does not exist"),
        (["--prompt-order", "names"], "cannot be looked for in 'names'"),
        (["--lora-dir", "missing"], "No folder of LoRAs 'missing'"),
        (["--suffix", "a/b"], "must not name a folder"),
    ],
)
def test_wrong_usage_is_one_sentence_before_anything_runs(tiny, tmp_path, arguments, match):
    source = make_folder(tmp_path / "in", 1)
    done = invoke(source, "-o", tmp_path / "out", "--pipeline", tiny, *arguments)
    assert isinstance(done.exception, (ConfigError, ImageError, ValueError)), done.output
    assert match in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_an_unknown_pipeline(tmp_path):
    source = make_folder(tmp_path / "in", 1)
    done = invoke(source, "-o", tmp_path / "out", "--pipeline", "tinny")
    assert done.exit_code != 0
    assert "tinny" in str(done.exception)


def test_changes_of_settings():
    assert changed_settings("default").total_steps == changed_settings("default", ["emphasis=0.2"]).total_steps
    changed = changed_settings("default", ["restorer=none", "delta=0.2"], "exact")
    assert (changed.restorer, changed.delta, changed.preserve) == ("none", 0.2, "exact")


def test_one_image_into_one_file(tiny, tmp_path):
    source = make_folder(tmp_path / "in", 3)
    before = set(tmp_path.rglob("*"))
    done = invoke(source / "0000.png", "-o", tmp_path / "out.webp", "--pipeline", tiny, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "out.webp"}
    assert read_image(tmp_path / "out.webp").format == "WEBP"
    assert read_record(read_image(tmp_path / "out.webp").embedded).state in ("refined", "untouched", "beyond")
    assert json.loads(done.stdout.splitlines()[-1])["out"] == str(tmp_path / "out.webp")
    again = invoke(source / "0001.png", "-o", tmp_path / "out.webp", "--pipeline", tiny)
    assert "is there already: --overwrite always" in str(again.exception)
    always = invoke(source / "0001.png", "-o", tmp_path / "out.webp", "--pipeline", tiny, "--overwrite", "always")
    assert always.exit_code == 0
    for arguments, match in (
        ([source, "-o", tmp_path / "new.png"], "one file: give one image"),
        ([source / "0000.png", source / "0001.png", "-o", tmp_path / "new.png"], "one file: give one image"),
        ([source / "0000.png", "-o", tmp_path / "new.gif"], "written as .png, .jpg or .webp"),
        ([source / "0000.png", "-o", source / "0000.png", "--overwrite", "always"], "unless it is the input"),
        ([source / "0000.png", "-o", tmp_path / "no" / "new.png"], "is no folder: make it first"),
    ):
        refused = invoke(*arguments, "--pipeline", tiny)
        assert match in str(refused.exception), refused.output
    (source / "bad.png").write_text("no picture")
    failed = invoke(source / "bad.png", "-o", tmp_path / "new.png", "--pipeline", tiny)
    assert failed.exit_code == 1
    assert not (tmp_path / "new.png").exists()
    assert not list(tmp_path.glob(".grefine*"))


def test_a_dry_run_writes_nothing_and_says_what_would_be_done(tiny, tmp_path):
    source = make_folder(tmp_path / "in", 4)
    (source / "bad.png").write_text("no picture")
    done = invoke(source, "-o", tmp_path / "out", "--pipeline", tiny, "--dry-run")
    assert done.exit_code == 1, done.output
    assert not (tmp_path / "out").exists()
    assert "bad.png" in done.stdout
    assert "nothing was written" in done.stdout
    planned = json.loads(invoke(source, "-o", "x", "--pipeline", tiny, "--dry-run", "--json").stdout.splitlines()[-1])
    assert planned["counts"]["refined"] == sum(bool(row.get("regions")) for row in planned["planned"]) > 0


def test_a_limit_and_a_prompt_for_all(tiny, tmp_path):
    source, out = make_folder(tmp_path / "in", 4), tmp_path / "out"
    line = [source, "-o", out, "--pipeline", tiny, "--prompt", "a red ball", "--no-report"]
    done = invoke(*line, "--limit", 2)
    assert len(rows(out)) == 2
    assert "2 had a prompt of their own" in done.stdout
    assert "2 were already done" in invoke(*line).stdout
    assert len(rows(out)) == 4
    invoke(*line[:2], tmp_path / "all", *line[3:], "--prompt-order", "prompt")
    assert {row["prompt"] for row in rows(tmp_path / "all")} == {"a red ball"}


def test_a_mistyped_input_makes_nothing(tiny, tmp_path):
    done = invoke(tmp_path / "in.pgn", "-o", tmp_path / "out", "--pipeline", tiny)
    assert "in.pgn' does not exist: give images" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_paths_on_standard_input(tiny, tmp_path):
    given = f"{make_folder(tmp_path / 'in', 2) / '0000.png'}\n"
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    line = ["--pipeline", str(tiny), *settings]
    command = [sys.executable, "-m", "grefine", "refine", "-", "-o", str(tmp_path / "out"), *line]
    done = subprocess.run(command, input=given, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "out")) == 1
    listing = "import sys; from grefine.folder.worklist import expand_stdin; print(expand_stdin(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", listing, "@-"], input=given, text=True, capture_output=True)
    assert done.stdout == f"{[Path(given.strip())]}\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", ["refine", "map", "score"])
def test_a_device_that_is_not_there(tiny, tmp_path, command):
    source = make_folder(tmp_path / "in", 1)
    given = {"refine": ["-o", tmp_path / "out"], "map": ["-o", tmp_path / "out"], "score": ["--metrics", "piqe"]}
    arguments = [command, source, *given[command], "--device", "cuda"]
    arguments += [] if command == "score" else ["--pipeline", tiny]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert "no usable GPU; use cpu" in str(done.exception)
    assert not (tmp_path / "out").exists()
