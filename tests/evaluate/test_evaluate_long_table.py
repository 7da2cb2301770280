"""The long table, the cache behind it, and pairing of folders."""

from __future__ import annotations

import csv
import math

import pytest
from stored_rows import read_rows

from grefine.errors import ConfigError
from grefine.evaluate.pairs import pair_folders
from grefine.evaluate.tables import ScoreRow, values_of, write_rows
from grefine.scorers.files import ScoreCache, score_key
from grefine.types import MetricSpec


def test_round_trip_keeps_every_bit(tmp_path):
    rows = [
        ScoreRow("a/=cmd.png", "before", "m", 0.1 + 0.2, 3, "cuda:0", "2"),
        ScoreRow("@x.png", "after", "m", math.inf),
        ScoreRow("'quoted.png", "after", "m", -1e-17),
        ScoreRow('with "both", and\nlines.png', "after", "m", 5.0),
    ]
    write_rows(tmp_path / "scores.csv", rows)
    assert read_rows(tmp_path / "scores.csv") == rows
    write_rows(tmp_path / "nan.csv", [ScoreRow("x", "before", "m", math.nan)])
    assert math.isnan(values_of(read_rows(tmp_path / "nan.csv"))["m"]["before"]["x"])


def test_no_cell_is_a_formula(tmp_path):
    write_rows(tmp_path / "scores.csv", [ScoreRow("=HYPERLINK(1).png", "+before", "-m", -2.0)])
    with (tmp_path / "scores.csv").open(newline="") as file:
        image, stage, metric, value, *_ = list(csv.reader(file))[1]
    assert (image[0], stage[0], metric[0]) == ("'", "'", "'")
    assert float(value) == -2.0


def test_cache_survives_being_cut_anywhere(tmp_path):
    path = tmp_path / "scores.jsonl"
    with ScoreCache(path) as cache:
        for index in range(3):
            cache.put(f"k{index}", {"m": index / 3, "n": math.nan})
    whole = path.read_bytes()
    for cut in range(0, len(whole), 3):
        path.write_bytes(whole[:cut])
        with ScoreCache(path) as cache:
            lines = whole[:cut].count(b"\n")
            assert [cache.get(f"k{i}") is not None for i in range(3)] == [i < lines for i in range(3)]
            cache.put("new", {"m": 1.0})
        with ScoreCache(path) as again:
            assert again.get("new") == {"m": 1.0}
            if lines:
                assert again.get("k0")["m"] == 0.0
                assert math.isnan(again.get("k0")["n"])


def test_key_knows_everything_that_matters():
    spec = MetricSpec("m")
    base = {"prompt": "p", "source": "w", "device": "cpu", "probe": ""}
    keys = {
        score_key(spec, "c", **base),
        score_key(MetricSpec("m", version="2"), "c", **base),
        score_key(spec, "d", **base),
        *(score_key(spec, "c", **(base | {name: "other"})) for name in base),
    }
    assert len(keys) == 3 + len(base)


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_pairs_by_path_then_by_stem(tmp_path):
    touch(tmp_path / "b", "one.png", "sub/one.png", "two.png", "three.jpg", "four.png", ".hidden.png", "notes.txt")
    touch(tmp_path / "a", "one.png", "sub/one.jpg", "two.webp", "two.jpg", "five.png")
    found = pair_folders(tmp_path / "b", tmp_path / "a")
    assert [*found.before] == ["one.png", "sub/one.png"]
    assert [(name, path.relative_to(tmp_path / "a").as_posix()) for name, path in found.after.items()] == [
        ("one.png", "one.png"),
        ("sub/one.png", "sub/one.jpg"),
    ]
    assert found.only_before == ("four.png", "three.jpg", "two.png")
    assert found.only_after == ("five.png", "two.jpg", "two.webp")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([], ["a.png"], r"b' \(no images\) and '.*a' \('a.png'\) have none in common"),
        (["a.png"], ["b.png"], "have none in common"),
    ],
)
def test_nothing_to_pair(tmp_path, before, after, words):
    for folder, names in (("b", before), ("a", after)):
        (tmp_path / folder).mkdir()
        touch(tmp_path / folder, *names)
    with pytest.raises(ConfigError, match=words):
        pair_folders(tmp_path / "b", tmp_path / "a")
    with pytest.raises(ConfigError, match="does not exist"):
        pair_folders(tmp_path / "none", tmp_path / "a")
