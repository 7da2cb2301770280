"""`grefine rank` as a user runs it: results on stdout, one sentence on stderr, exit codes."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from study_fixtures import write_methods

from grefine.cli.main import main

VOTES = "method_a,method_b,image,subject,votes_a,votes_b\n" + "".join(
    f"{a},{b},x{i},s{s},{int((i + s) % 3 > 0)},{int((i + s) % 3 == 0)}\n"
    for a, b in (("A", "B"), ("B", "C"), ("A", "C"))
    for i in range(3)
    for s in range(3)
)


@pytest.fixture
def grefine(monkeypatch, capsys):
    """Run the command line in this process, as its entry point does."""

    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["grefine", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, (out, err)
        return SimpleNamespace(stdout=out, stderr=err)

    return run


@pytest.fixture(scope="module")
def votes(tmp_path_factory):
    path = tmp_path_factory.mktemp("votes") / "votes.csv"
    path.write_text(VOTES)
    return path


def test_fit_as_json_and_plot(grefine, votes, tmp_path):
    done = grefine("rank", "fit", votes, "--json", "--resamples", 20, "--draws", 3, "--plot", tmp_path / "fit.svg")
    found = json.loads(done.stdout)
    assert {"scores", "intervals", "counts", "log_likelihood"} <= set(found)
    assert list(found["scores"]) == ["A", "B", "C"]
    assert found["counts"]["A"] == {"B": 6, "C": 6}
    assert found["resampled"] == "subject and image"
    assert (tmp_path / "fit.svg").read_text().startswith("<?xml")


def test_pairs_then_score(grefine, tmp_path):
    folders = write_methods(tmp_path / "methods", images=4, size=(64, 64))
    done = grefine("rank", "pairs", *folders, "-k", 2, "-o", tmp_path / "study", "--distance", "offline", "--json")
    pairs = json.loads(done.stdout)
    assert len(pairs) == 6
    assert "describing alpha" in done.stderr
    (tmp_path / "votes.csv").write_text(
        "method_a,method_b,image,votes_a,votes_b\n"
        + "".join(f"{p['method_a']},{p['method_b']},{p['image']},2,1\n" for p in pairs)
    )
    judged = ("--metric", "piqe", "--images", tmp_path / "methods", "--json")
    rows = json.loads(grefine("rank", "score", tmp_path / "votes.csv", *judged).stdout)
    assert [r["judge"] for r in rows] == ["human oracle", "global ranking", "piqe"]
    assert rows[0]["2afc"] == pytest.approx(2 / 3)


def test_each_mistake_is_one_sentence(grefine, votes, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("method_a,method_b,votes_a,votes_b\nA,B,-1,2\n")
    apart = tmp_path / "apart.csv"
    apart.write_text("method_a,method_b,votes_a,votes_b\nA,B,1,2\nC,D,1,1\n")
    (tmp_path / "empty").mkdir()
    cases = [
        (("rank", "fit", bad), "line 2: votes_a is '-1'"),
        (("rank", "fit", apart), "No vote connects A and B with C and D"),
        (("rank", "fit", tmp_path / "none.csv"), "Cannot read the votes"),
        (("rank", "fit", votes, "--method", "A", "--method", "B"), "'C', which is not among A, B"),
        (("rank", "fit", votes, "--by", "moon"), "auto, subject, image or both"),
        (("rank", "study", tmp_path / "empty"), "is not a study folder"),
        (("rank", "pairs", tmp_path / "empty", "-o", tmp_path / "s"), "at least two methods"),
        (("rank", "score", votes, "--metric", "piqe"), "needs the images"),
    ]
    for arguments, says in cases:
        done = grefine(*arguments, code=2)
        assert says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stdout == ""
