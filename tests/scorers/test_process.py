"""Judges in a process of their own, each a real child of this Python."""

from __future__ import annotations

import csv
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from grefine import evaluate_folders, load_scorer
from grefine.cli.main import app
from grefine.errors import ConfigError, ImageError, MetricUnavailable, PromptError
from grefine.scorers import registry
from grefine.scorers.files import score_files
from grefine.scorers.prefilter import read_gate
from grefine.scorers.protocol import rate
from grefine.scorers.registry import split_names, split_value
from grefine.scorers.resolve import resolve

sys.path.insert(0, str(Path(__file__).parent.parent))

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "judge_process" / "brightness.py"
BODY = """
import json, os, sys, time
from pathlib import Path
here = Path(__file__).parent
with open(here / "starts", "a") as file:
    file.write(f"{os.getpid()}\\n")
print("a library says hello")
print(json.dumps({"judge": JUDGE}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    print("a library says something", flush=True)
    n = len(asked["images"])
    ANSWER
"""
SCORES = 'print(json.dumps({"id": asked["id"], "scores": %s}), flush=True)'


def process(folder: Path, *command: object) -> str:
    """Write the file that names this command; return what names it."""
    (folder / "named.yaml").write_text(f"command: [{', '.join(map(str, command))}]\n")
    return f"process:{folder / 'named.yaml'}"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No process of one test is another's, and none outlives its test."""
    monkeypatch.setattr(registry, "_processes", processes := {})
    yield
    for file in processes.values():
        file.stop()


@pytest.fixture
def child(tmp_path):
    """Write a judge; return what names it."""

    def write(answer: str, judge: str = '{"name": "theirs"}', timeout: float = 300) -> str:
        body = BODY.replace("JUDGE", judge).replace("ANSWER", answer.replace("\n", "\n    "))
        (tmp_path / "judge.py").write_text(body)
        (tmp_path / "judge.yaml").write_text(f"command: [{sys.executable}, judge.py]\ntimeout: {timeout}\n")
        return f"process:{tmp_path / 'judge.yaml'}"

    write.folder = tmp_path  # type: ignore[attr-defined]
    return write


def starts(child) -> list[str]:
    return (child.folder / "starts").read_text().split()


def grey(value: int) -> Image.Image:
    return Image.new("RGB", (24, 16), (value, value, value))


def test_the_example_judges_everywhere(tmp_path):
    """In `score`, in the first look, in an evaluation and in the guard, by the same words."""
    named = process(tmp_path, sys.executable, EXAMPLE)
    for folder, value in (("before", 40), ("after", 200)):
        (tmp_path / folder).mkdir()
        for index in range(6):
            grey(value + index).save(tmp_path / folder / f"{index}.png")
    done = CliRunner().invoke(app, ["score", str(tmp_path / "before"), "--metrics", f"{named},piqe"])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [float(row["brightness"]) for row in rows] == [40, 41, 42, 43, 44, 45]
    assert all(row["piqe"] for row in rows)
    verdicts = read_gate(f"{named}:100").look([grey(40), grey(200)], ["", ""])
    assert [verdict.passed for verdict in verdicts] == [False, True]
    found = evaluate_folders(tmp_path / "before", tmp_path / "after", metrics=f"{named},piqe")
    assert found.analysis.metrics[0].metric == "brightness"
    assert found.analysis.metrics[0].gain.mean == pytest.approx(160)

    from components import pipeline

    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    settings = {"total_steps": 2, "restorer": "none"}
    (result,) = pipeline()(image=noisy, mask_image=Image.fromarray(mask), config=settings, scorers=[named]).results
    assert result.before["brightness"] == pytest.approx(np.asarray(noisy.convert("L")).mean())


def test_a_yaml_starts_it_beside_itself(child):
    judge = load_scorer(child(SCORES % "[{'theirs.count': n}] * n", '{"name": "theirs", "range": [0, None]}', 30))
    assert judge.spec.range == (0, float("inf"))
    assert [one.values for one in judge([grey(1), grey(2)])] == [{"theirs.count": 2.0}] * 2
    assert len(starts(child)) == 1


def test_prompts_reach_it_where_it_asks_for_them(child):
    judge = load_scorer(
        child(SCORES % "[len(p) for p in asked['prompts']]", '{"name": "theirs", "needs_prompt": True}')
    )
    assert [one["theirs"] for one in judge([grey(1), grey(2)], ["a", "four"])] == [1, 4]
    with pytest.raises(PromptError, match="one prompt per image"):
        judge([grey(1)])


def test_a_dead_one_is_started_once_more(child):
    judge = load_scorer(
        child("if len((here / 'starts').read_text().split()) == 1: sys.exit('out of memory')\n" + SCORES % "[0.5] * n")
    )
    assert judge([grey(1)])[0]["theirs"] == 0.5
    assert len(starts(child)) == 2


def test_one_that_dies_every_time_is_left_alone_after_two_requests(child):
    judge = load_scorer(child("sys.exit('no kernel\\nCUDA is gone')"))
    with pytest.raises(MetricUnavailable, match="died twice at one request: CUDA is gone$"):
        judge([grey(1)])
    assert len(starts(child)) == 2
    found = rate(judge, [grey(value) for value in range(6)])
    assert all(isinstance(error, MetricUnavailable) for error in found)
    assert "not asked again" in str(found[-1])
    assert len(starts(child)) == 4  # one request more, and its second try


def test_one_that_hangs_is_ended(child):
    judge = load_scorer(child("time.sleep(60)", timeout=3))
    with pytest.raises(MetricUnavailable, match="did not answer within 3 seconds: raise `timeout`"):
        judge([grey(1)])
    (started,) = starts(child)
    with pytest.raises(ProcessLookupError):
        os.kill(int(started), 0)


def test_a_picture_that_it_refuses_costs_no_other(child, tmp_path):
    named = child(
        "if n > 1:\n    print(json.dumps({'id': asked['id'], 'error': 'one\\nat a time'}), flush=True)\n"
        "else:\n    " + SCORES % "[0.5]"
    )
    with pytest.raises(ImageError, match="refuses: one at a time$"):
        load_scorer(named)([grey(1), grey(2)])
    for value in range(3):
        grey(value).save(tmp_path / f"{value}.png")
    table = score_files([tmp_path], [resolve(named)])
    assert [row["theirs"] for row in table.rows] == [0.5] * 3
    assert len(starts(child)) == 1


def test_a_changed_script_is_another_version(child):
    first = load_scorer(child(SCORES % "[0.5] * n")).spec.version
    registry._processes.clear()
    assert load_scorer(child(SCORES % "[0.6] * n")).spec.version != first


@pytest.mark.parametrize(
    ("judge", "answer", "said"),
    [
        ('{"name": "Theirs!"}', "pass", "of small letters, digits and _, not"),
        ('{"name": "piqe"}', "pass", "which another judge is called already"),
        ('{"name": "theirs", "direction": "up"}', "pass", "'direction' must be one of"),
        ('{"name": "theirs", "convert": "x"}', "pass", "says 'convert' of itself"),
        ('{"name": "theirs"}', SCORES % "[0.5] * (n + 1)", "returned 2 values for 1 images"),
        ('{"name": "theirs"}', SCORES % "['good'] * n", "give finite numbers"),
        ('{"name": "theirs"}', SCORES % "[{'ours': 1}] * n", "not theirs or theirs.PART"),
        ('{"name": "theirs"}', SCORES % "7", "must answer with a list of scores"),
    ],
)  # fmt: skip
def test_what_is_not_a_judge_is_refused_in_a_sentence(child, judge, answer, said):
    with pytest.raises(ConfigError, match=said) as caught:
        load_scorer(child(answer, judge))([grey(1)])
    assert "\n" not in str(caught.value)


def test_what_does_not_start_says_so(tmp_path):
    with pytest.raises(MetricUnavailable, match="cannot be started: No such file"):
        load_scorer(process(tmp_path, tmp_path / "python", "judge.py"))
    with pytest.raises(MetricUnavailable, match="ended before it said what it is: .*No such file"):
        load_scorer(process(tmp_path, sys.executable, tmp_path / "judge.py"))
    with pytest.raises(ConfigError, match="is named process:FILE.yaml"):
        load_scorer("process:python3")
    done = CliRunner().invoke(app, ["score", str(tmp_path), "--metrics", "process:none"])
    assert done.exit_code != 0


def test_commas_divide_metrics():
    assert split_names("piqe, process:x.yaml ,mdiqa,") == ["piqe", "process:x.yaml", "mdiqa"]
    assert split_value("MDIQA.Sharpness") == ("mdiqa", "sharpness")
