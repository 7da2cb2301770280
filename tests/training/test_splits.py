"""Splits are reproducible, keep together what belongs together, and say what both sides share."""

from __future__ import annotations

from pathlib import Path

import pytest

from grefine.errors import ConfigError
from grefine.training.datasets.rated import (
    RatedImage,
    RatedImages,
    Split,
    SplitPlan,
    leakage,
    leakage_sentences,
    split,
)


def pictures(count=100, prompts=25, contents=0, orders=()):
    rows = tuple(
        RatedImage(
            Path(f"{n}.png"),
            {"mos": float(n)},
            prompt=f"Prompt  {n % prompts}" if n % 2 else f"prompt {n % prompts}",
            content=f"ref{n % contents}" if contents else "",
        )
        for n in range(count)
    )
    return RatedImages("toy", rows, ("mos",), permutations=orders)


def test_random_splits_repeat_exactly_and_differ_by_repeat():
    data = pictures()
    plan = SplitPlan("random", 0.8, seed=3)
    one, two, other = split(data, plan), split(data, plan), split(data, SplitPlan("random", 0.8, 3, repeat=1))
    assert one == two
    assert one != other
    assert len(one.train) == 80
    assert sorted(one.train + one.test) == list(range(100))


@pytest.mark.parametrize("kind", ["prompt", "content"])
def test_groups_stay_together(kind):
    data = pictures(contents=20)
    found = split(data, SplitPlan(kind, 0.8))
    shared = leakage(data, found)
    assert shared[f"{kind}s"]["shared"] == 0
    assert 74 <= len(found.train) <= 86
    assert any("no test picture shares" in line for line in leakage_sentences(shared))


def test_a_random_split_leaks_and_says_so():
    data = pictures()
    found = leakage(data, split(data, SplitPlan("random")))
    assert found["prompts"]["shared"] > 0
    assert found["prompts"]["of"] <= 20
    assert found["prompts"]["pictures"] >= found["prompts"]["shared"]
    assert found["contents"]["of"] == 0
    assert found["files"]["shared"] == 0
    text = " ".join(leakage_sentences(found))
    assert f"({found['prompts']['shared']} of {found['prompts']['of']} prompts)" in text


def test_leakage_counts_exactly():
    rows = [("a", "x"), ("b", "x"), ("c", "y"), ("a", "x"), ("d", "x"), ("e", "z")]
    data = RatedImages("t", tuple(RatedImage(Path(p), {"mos": 1.0}, q) for p, q in rows), ("mos",))
    found = leakage(data, Split((0, 1, 2), (3, 4, 5)))
    assert (found["files"]["shared"], found["files"]["of"], found["files"]["pictures"]) == (1, 3, 1)
    assert (found["prompts"]["shared"], found["prompts"]["of"], found["prompts"]["pictures"]) == (1, 2, 2)


def test_published_folds():
    order = tuple(reversed(range(100)))
    data = pictures(orders=(tuple(range(100)), order))
    found = split(data, SplitPlan("folds"))
    assert found.test == tuple(range(80, 100))
    assert split(data, SplitPlan("folds", repeat=1)).test == order[80:]
    assert split(data, SplitPlan("folds", fold=1)).test == tuple(range(20))
    with pytest.raises(ConfigError, match="publishes 2 orders"):
        split(data, SplitPlan("folds", repeat=2))


def test_published_parts():
    rows = tuple(RatedImage(Path(f"{n}"), {"mos": 1.0}, part=["train", "test", "validation"][n % 3]) for n in range(9))
    found = split(RatedImages("t", rows, ("mos",)), SplitPlan("parts"))
    assert (found.train, found.test) == ((0, 3, 6), (1, 4, 7))


def test_splits_that_cannot_be():
    with pytest.raises(ConfigError, match="share above 0"):
        SplitPlan(train=1.0)
    with pytest.raises(ConfigError, match="counted from 1 to 5"):
        SplitPlan(fold=6)
    with pytest.raises(ConfigError, match="does not say which"):
        split(pictures(), SplitPlan("parts"))
    with pytest.raises(ConfigError, match="share a prompt"):
        split(pictures(prompts=1000), SplitPlan("prompt"))
    with pytest.raises(ConfigError, match="to test; each side needs two"):
        split(pictures(prompts=1), SplitPlan("prompt"))
