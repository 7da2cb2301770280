"""Against the stated simulator: rankings come back, and intervals cover at about their level."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.vote_simulator import choose, draw_world, vote
from grefine.errors import ConfigError
from grefine.evaluate.correlation import srcc
from grefine.ranking.result import rank_methods
from grefine.ranking.thurstone import (
    agreement,
    fit_scores,
    resampled_intervals,
    stability,
    stability_in_order,
)
from grefine.ranking.votes import Vote, table_from_votes


def simulated(seed, k=12, selection="random", **world):
    generator = np.random.default_rng(seed)
    made = draw_world(generator, **({"methods": 5, "inputs": 400, "subjects": 12} | world))
    subjects = made.subject_effects.shape[1]
    return made, vote(made, choose(made, k, selection, generator), subjects, generator, selection)


def test_scores_come_back_with_enough_votes():
    world, table = simulated(0, k=600, inputs=4000, subjects=4, image_effect=0.5, subject_effect=0.0)
    found = fit_scores(table.counts(), table.methods).mu
    np.testing.assert_allclose(found, world.target, atol=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_rankings_come_back(seed):
    world, table = simulated(seed, k=30, spread=0.7, subject_effect=0.1)
    found = fit_scores(table.counts(), table.methods).mu
    assert srcc(found, world.mu) > 0.85


def coverage(by, runs, **world):
    inside, total = 0, 0
    for seed in range(runs):
        made, table = simulated(100 + seed, **world)
        found = resampled_intervals(table, by, resamples=60, level=0.9, seed=seed)
        inside += int(((found.low <= made.target) & (made.target <= found.high)).sum())
        total += len(made.mu)
    return inside / total


def test_intervals_by_subject_cover_at_about_their_level():
    share = coverage("subject", 24, k=4, image_effect=0.0, subject_effect=0.5, spread=0.4)
    assert 0.82 <= share <= 0.97, f"90 % intervals covered {share:.0%}"


def test_intervals_by_image_cover_at_about_their_level():
    share = coverage("image", 24, k=8, image_effect=0.7, subject_effect=0.0, spread=0.4, inputs=2000)
    assert 0.82 <= share <= 0.97, f"90 % intervals covered {share:.0%}"


def test_intervals_by_both_cover_where_subjects_and_images_differ():
    share = coverage("auto", 24, k=8, image_effect=0.5, subject_effect=0.3, spread=0.4, inputs=2000)
    assert 0.82 <= share <= 0.98, f"90 % intervals covered {share:.0%}"
    alone = coverage("subject", 24, k=8, image_effect=0.5, subject_effect=0.0, spread=0.4, inputs=2000)
    assert alone < 0.8, "resampling subjects alone is too sure where images differ"


def test_counting_votes_as_independent_is_too_sure():
    """Why subjects or images are resampled, and not votes."""
    inside, total = 0, 0
    for seed in range(20):
        made, table = simulated(300 + seed, k=12, image_effect=0.0, subject_effect=0.6, spread=0.4)
        fit = fit_scores(table.counts(), table.methods)
        inside += int((np.abs(fit.mu - made.target) <= 1.645 * fit.standard_errors).sum())
        total += len(made.mu)
    assert inside / total < 0.8


def test_mad_exaggerates_differences():
    """The images on which two methods differ most are not typical: scores spread wider than on all images."""
    wide, fair = [], []
    for seed in range(4):
        _, mad = simulated(seed, k=10, selection="mad")
        _, random = simulated(seed, k=10, selection="random")
        wide.append(fit_scores(mad.counts(), mad.methods).mu.std())
        fair.append(fit_scores(random.counts(), random.methods).mu.std())
    assert np.mean(wide) > 1.2 * np.mean(fair)


def test_intervals_say_what_they_rest_on():
    _, table = simulated(1, k=3)
    found = resampled_intervals(table, resamples=20)
    assert (found.by, found.resamples) == ("subject and image", 20)
    assert resampled_intervals(table, "subject", resamples=20).clusters == 12
    assert resampled_intervals(table, "image", resamples=20).by == "image"
    nameless = table_from_votes([Vote("A", "B", "x", 3, 1), Vote("A", "B", "y", 2, 1)])
    assert resampled_intervals(nameless, resamples=20).by == "image"
    with pytest.raises(ConfigError, match="name none"):
        resampled_intervals(nameless, "subject")
    with pytest.raises(ConfigError, match="at least two images; there is 1"):
        resampled_intervals(table_from_votes([Vote("A", "B", "x", 3, 1)]))


def test_a_report_has_everything(tmp_path):
    from grefine.ranking.result import plot_ranking

    _, table = simulated(2, k=4, methods=4, selection="mad")
    ranking = rank_methods(table, resamples=20, draws=5)
    found = ranking.as_dict()
    assert {"scores", "intervals", "counts", "log_likelihood", "bradley_terry", "stability"} <= set(found)
    assert list(found["scores"].values()) == sorted(found["scores"].values(), reverse=True)
    assert sum(sum(row.values()) for row in found["counts"].values()) == table.total
    assert [p["K"] for p in found["stability"]] == [1, 2, 3, 4]
    assert found["stability"][-1]["srcc"] == pytest.approx(1)
    assert found["stability_in_order"][-1] == {"K": 4, "srcc": pytest.approx(1)}
    assert found["resampled"] == "subject and image"
    assert 0.4 < found["agreement"]["two_subjects"] < 1
    for suffix in (".png", ".svg"):
        plot_ranking(ranking, tmp_path / f"plot{suffix}")
        assert (tmp_path / f"plot{suffix}").stat().st_size > 2000


def test_one_subject_and_one_image_still_give_a_ranking():
    ranking = rank_methods(table_from_votes([Vote("A", "B", "x", 3, 1)]), draws=0)
    assert ranking.intervals is None
    assert "No intervals" in "\n".join(ranking.lines())


def test_agreement_by_hand():
    votes = [
        Vote("A", "B", "x", 3, 1),
        Vote("B", "C", "x", 4, 0),
        Vote("C", "A", "x", 2, 2),
        Vote("C", "A", "y", 1, 0),
    ]
    two_subjects, human_oracle = agreement(table_from_votes(votes))
    assert two_subjects == pytest.approx(np.mean([0.5, 1.0, 1 / 3]))
    assert human_oracle == pytest.approx(np.mean([0.75, 1.0, 0.5, 1.0]))
    assert agreement(table_from_votes([Vote("A", "B", "x", 1, 0)])) == (None, 1.0)


def test_stability_of_an_ordered_selection():
    _, table = simulated(3, k=5, selection="mad")
    assert stability_in_order(table, "none") == []
    curve = stability_in_order(table, "")
    assert [K for K, _ in curve] == [1, 2, 3, 4, 5]
    assert curve[-1][1] == pytest.approx(1)
    assert len(stability(table, draws=3, largest=2)) == 2


def test_a_world_needs_two_of_everything():
    with pytest.raises(ConfigError, match="at least two"):
        draw_world(np.random.default_rng(0), subjects=1)
