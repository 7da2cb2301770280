"""`grefine refine` as it is typed: options, exit codes, what goes to which stream."""

from __future__ import annotations

import json

import pytest
from small_world import make_folder, rows, tree
from typer.testing import CliRunner

from grefine.cli.main import app
from grefine.errors import ConfigError, ImageError
from grefine.folder.settings import changed_settings

SETTINGS = ["gate=false", "use_aq=false", "mask_mode=mean", "max_area=0.6", "max_regions=1", "total_steps=2"]
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
    assert changed_settings("default").total_steps == changed_settings("default", ["split=0.5"]).total_steps
    changed = changed_settings("default", ["restorer=none", "delta=0.2"], "exact")
    assert (changed.restorer, changed.delta, changed.preserve) == ("none", 0.2, "exact")
