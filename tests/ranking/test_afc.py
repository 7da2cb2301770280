"""2AFC scores: credits, ties, baselines, judges."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from study_fixtures import write_methods

from grefine.errors import ConfigError
from grefine.ranking.judges import (
    afc_table,
    baselines,
    judge_choices,
    metric_values,
    preference,
    two_afc,
    voted_images,
)
from grefine.ranking.thurstone import fit_scores
from grefine.ranking.votes import Vote, in_group, read_votes, table_from_votes
from grefine.scorers.resolve import read_weights


@pytest.fixture
def table():
    return table_from_votes(
        [Vote("A", "B", "x", 3, 1), Vote("A", "C", "x", 1, 3), Vote("B", "C", "y", 2, 2), Vote("C", "A", "y", 4, 0)]
    )


def test_credits_by_hand(table):
    result = two_afc(table, np.array([1, 1, 0, 0.5]))
    assert result.credits.tolist() == [0.75, 0.25, 0.5, 0.5]
    assert result.score == 0.5
    assert result.ties == 1
    assert result.interval[0] <= 0.5 <= result.interval[1]


def test_baselines_by_hand(table):
    found = baselines(table, {"A": 0.0, "B": -1.0, "C": 1.0})
    assert found["human oracle"].score == np.mean([0.75, 0.75, 0.5, 1.0])
    assert found["global ranking"].score == np.mean([0.75, 0.75, 0.5, 1.0])


def test_a_constant_judge_scores_half(table):
    values = {(m, x): 1.0 for m in "ABC" for x in "xy"}
    assert two_afc(table, judge_choices(table, values)).score == 0.5


def test_more_is_better_and_equal_is_half():
    assert preference(np.array([1, 2, 2]), np.array([2, 1, 2])).tolist() == [0, 1, 0.5]


def test_subjects_are_added_up_whatever_side_they_saw():
    votes = [Vote("A", "B", "x", 1, 0, "ann"), Vote("B", "A", "x", 1, 0, "bob"), Vote("A", "B", "x", 1, 0, "cy")]
    (row,) = table_from_votes(votes).merged().votes
    assert (row.method_a, row.votes_a, row.votes_b) == ("A", 2, 1)


def test_neither_the_order_of_rows_nor_the_side_shown_changes_anything():
    rng = np.random.default_rng(0)
    votes = [
        Vote(a, b, image, int(rng.integers(4)), int(rng.integers(1, 4)))
        for image in "uvwx"
        for a, b in (("A", "B"), ("A", "C"), ("B", "C"))
        for _ in range(3)
    ]
    turned = [
        Vote(v.method_b, v.method_a, v.image, v.votes_b, v.votes_a) if rng.random() < 0.5 else v
        for v in rng.permutation(np.array(votes, dtype=object))
    ]
    one, other = table_from_votes(votes).merged(), table_from_votes(turned).merged()
    assert one == other
    assert len(one.votes) == 12


def test_missing_and_undefined_values_are_refused(table):
    values = {(m, x): 1.0 for m in "ABC" for x in "xy"}
    del values["C", "y"]
    with pytest.raises(ConfigError, match="first 'y' of 'C'"):
        judge_choices(table, values)
    with pytest.raises(ConfigError, match="finite"):
        judge_choices(table, values | {("C", "y"): float("nan")})


def test_rows_are_baselines_first_then_the_best_judge(table):
    good = {("A", "x"): 2.0, ("B", "x"): 1.0, ("C", "x"): 3.0, ("A", "y"): 0.0, ("B", "y"): 1.0, ("C", "y"): 2.0}
    bad = {k: -v for k, v in good.items()}
    rows = afc_table(table, {"bad": bad, "good": good})
    assert [r.name for r in rows[:2]] == ["human oracle", "global ranking"]
    assert rows[-2].name == "good"
    assert rows[-1].name == "bad"
    assert rows[-1].result.score == pytest.approx(1 - rows[-2].result.score)
    assert json.dumps([r.as_dict() for r in rows])
    assert "(baseline)" in rows[0].line()


def test_images_and_a_registry_metric(tmp_path):
    write_methods(tmp_path / "methods", images=3, size=(96, 96))
    votes = [
        Vote("alpha", "beta", "im0", 1, 0),
        Vote("beta", "gamma", "im1", 1, 1),
        Vote("alpha", "gamma", "im2", 1, 0),
    ]
    table = table_from_votes(votes)
    paths = voted_images(table, [tmp_path / "methods"])
    assert len(paths) == 6
    assert paths == voted_images(table, sorted((tmp_path / "methods").iterdir()))
    found = metric_values(["piqe"], paths)
    assert set(found["piqe"]) == set(paths)
    assert max(found["piqe"].values()) <= 0, "lower is better"
    assert 0 <= afc_table(table, found)[-1].result.score <= 1
    (tmp_path / "methods" / "beta" / "im1.png").unlink()
    with pytest.raises(ConfigError, match="lacks 1 voted images, first 'im1'"):
        voted_images(table, [tmp_path / "methods"])
    with pytest.raises(ConfigError, match="No folder for the voted method 'beta'"):
        voted_images(table, [tmp_path / "methods" / "alpha", tmp_path / "methods" / "gamma"])
    with pytest.raises(ConfigError, match="needs the images"):
        voted_images(table, [])


def test_metric_options_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="No metric 'piqee'"):
        metric_values(["piqee"], {})
    assert read_weights(["MDIQA=x/y"]) == {"mdiqa": "x/y"}
    with pytest.raises(ConfigError, match="METRIC=PATH"):
        read_weights(["mdiqa"])


@pytest.mark.weights
def test_the_real_votes_give_the_known_baselines():
    if "GREFINE_DATA" not in os.environ:
        pytest.skip("GREFINE_DATA is not set: the baselines were not checked against the real votes")
    table = read_votes(Path(os.environ["GREFINE_DATA"]) / "sr_iqa_votes.csv")
    mu = dict(zip(table.methods, fit_scores(table.counts(), table.methods).mu, strict=True))
    found = {name: round(r.score, 4) for name, r in baselines(table, mu, resamples=50).items()}
    assert found == {
        "human oracle": 0.7767,
        "global ranking": 0.6958,
    }
    for group, known in (("mad", 0.8025), ("mid", 0.7508)):
        assert afc_table(in_group(table, group), {})[0].result.score == pytest.approx(known, abs=5e-5)
