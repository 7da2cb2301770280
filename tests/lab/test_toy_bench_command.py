"""`python -m lab bench` from the outside."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from grefine.resources import pipeline_folder
from lab.cli import main


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "lab", "bench", *arguments], capture_output=True, text=True)


def test_an_unknown_pipeline_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lab", "bench", "--quick", "--pipeline", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    out, said = capsys.readouterr()
    assert "nothing" in said
    assert "Traceback" not in said
    assert out == ""


def test_a_folder_that_is_no_early_checkpoint_is_refused(tmp_path):
    from grefine.errors import ConfigError
    from lab.bench.repaint import early_pipeline

    with pytest.raises(ConfigError, match="unet, text_encoder, text_encoder_2"):
        early_pipeline(None, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(pipeline_folder("tiny") is None, reason="the embedded pipeline is not in this tree")
def test_a_quick_run_writes_everything(tmp_path):
    names = {name: tmp_path / f"out.{name}" for name in ("json", "raw", "png")}
    done = run(
        "--quick",
        *("--json", names["json"], "--raw", names["raw"], "--gallery", names["png"]),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(names["json"].read_text())["rows"]
    assert {"pq.auc", "aq.named", "repaint.colour", "whole.improved", "clean.untouched", "exact"} <= set(rows)
    assert {"clean.untouched.jpeg", "clean.untouched.webp", "clean.untouched.resized", "outside.worse"} <= set(rows)
    assert rows["exact"]["value"] == 1
    assert rows["control.identity.improved"]["value"] == 0
    assert {"control.random.improved", "ablation.pq.improved"} <= set(rows), "a quick run has every row but by kind"
    assert "| pq.auc |" in done.stdout
    assert len(names["raw"].read_text().splitlines()) > 50
    assert names["png"].stat().st_size > 10_000


@pytest.mark.slow
def test_what_tries_and_steering_cost(tmp_path):
    plot = tmp_path / "costs.png"
    line = [sys.executable, "-m", "lab", "costs", "--count", "8", "--plot", str(plot)]
    told = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    drawn = [float(row.split("|")[2]) for row in told]
    assert drawn[3] > drawn[2] > drawn[1] > drawn[0] == drawn[4]
    assert plot.stat().st_size > 1000
