"""Values and intervals of the benchmark against known ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab.bench import intervals


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(hits, n, low, high):
    row = intervals.share(np.arange(n) < hits)
    assert row.value == pytest.approx(hits / n)
    assert (row.low, row.high) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))
    assert row == intervals.share_of(hits / n, n)


def exact_average_precision(scores, truth):
    hits = truth[np.argsort(-scores)]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return (precision * hits).sum() / hits.sum()


def test_average_precision_agrees_with_its_definition():
    rng = np.random.default_rng(0)
    truth = rng.random((12, 400)) < 0.1
    scores = rng.normal(size=truth.shape) + 1.5 * truth
    row = intervals.average_precision(list(scores), list(truth))
    assert row.value == pytest.approx(exact_average_precision(scores.ravel(), truth.ravel()), abs=0.01)
    assert row.low < row.value < row.high
    assert row.n == 12


def test_average_precision_of_a_perfect_an_inverse_and_a_blind_map():
    truth = [np.arange(400) < 40] * 4
    perfect = intervals.average_precision([t.astype(float) for t in truth], truth)
    assert perfect.value == pytest.approx(1.0)
    assert intervals.average_precision([-t.astype(float) for t in truth], truth).value < 0.15
    blind = np.random.default_rng(1)
    assert intervals.average_precision([blind.random(400) for _ in truth], truth).value == pytest.approx(0.1, abs=0.06)


def test_separation_and_its_ties():
    assert intervals.separation([2, 3], [0, 1]).value == 1
    assert intervals.separation([1, 1], [1, 1]).value == 0.5
    assert intervals.separation([0.0], [1.0]).value == 0


def test_correlations():
    x = np.arange(30)
    assert intervals.correlation(x, x**3).value == pytest.approx(1)
    assert intervals.correlation(x, -x).value == pytest.approx(-1)
    assert intervals.correlation(np.ones(30), x).value == 0, "a constant score knows nothing"
    assert intervals.mean_correlation(np.stack([x, -x]), x).value == pytest.approx(0)


def test_a_ratio_of_means_and_a_mean():
    row = intervals.ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert row.value == row.low == row.high == pytest.approx(0.5)
    mean = intervals.mean([0.0, 1.0, 2.0, 3.0])
    assert mean.low < mean.value == 1.5 < mean.high


def test_nothing_measured_is_no_number():
    for row in (
        intervals.share([]),
        intervals.mean([]),
        intervals.separation([], [1.0]),
        intervals.average_precision([], []),
    ):
        assert row.n == 0
        assert math.isnan(row.value)


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(2).random(40)
    assert intervals.separation(values, values - 0.1) == intervals.separation(values, values - 0.1)
