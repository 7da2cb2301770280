"""Paired statistics against scipy, against values worked by hand, and against simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from grefine.evaluate.results import level_of
from grefine.evaluate.statistics import (
    holm,
    mean_interval,
    mean_test,
    noise_band,
    rank_biserial,
    sign_flip,
    skewed_t,
    summarise,
    terciles,
    wilcoxon_pratt,
)


@pytest.mark.parametrize("count", [6, 9, 13, 40, 300])
def test_the_sign_flip_test_is_scipys_permutation_test(count):
    gains = np.random.default_rng(count).normal(0.4, 1, count)
    theirs = stats.permutation_test(
        (gains,), np.mean, permutation_type="samples", n_resamples=20000, rng=np.random.default_rng(1), axis=0
    ).pvalue
    assert sign_flip(gains) == pytest.approx(theirs, abs=1e-12 if count <= 13 else 0.012)
    assert sign_flip([*gains, 0.0, 0.0]) == sign_flip(gains), "what was not touched has no sign"


@pytest.mark.parametrize("count", [6, 10, 25])
def test_the_interval_holds_what_the_test_does_not_reject(count):
    gains = np.random.default_rng(count).normal(0.4, 1, count)
    found = mean_interval(gains)
    step = (found.high - found.low) / 100
    for edge, inward in ((found.low, step), (found.high, -step)):
        assert sign_flip(gains - edge - inward) > 0.05
        assert sign_flip(gains - edge + inward) <= 0.05
    half = mean_interval([*gains, *[0.0] * count])
    assert (half.low, half.high) == (pytest.approx(found.low / 2), pytest.approx(found.high / 2))


@pytest.mark.parametrize(("count", "untouched"), [(10, 0), (20, 0.5), (20, 0.7), (40, 0.5), (100, 0.9)])
def test_intervals_cover_and_verdicts_hold_their_level(count, untouched):
    """A thousand runs without any true gain; benchmarks/verdict_level.py prints the whole table."""
    rng = np.random.default_rng(7)
    gains = rng.normal(size=(1000, count))
    gains[:, : round(untouched * count)] = 0
    found = [summarise(row) for row in gains]
    assert 0.93 <= np.mean([0.0 in one.interval for one in found]) <= 0.98
    assert np.mean([level_of(one) in ("better", "worse") for one in found]) <= 0.065


def test_a_long_tail_does_not_make_a_verdict():
    rng = np.random.default_rng(5)
    gains = rng.lognormal(0, 1, (1000, 12)) - np.exp(0.5)
    assert np.mean([sign_flip(row) <= 0.05 for row in gains]) > 0.1
    assert np.mean([mean_test(row) <= 0.05 for row in gains]) <= 0.08
    assert np.mean([mean_test(row + 2) <= 0.05 for row in gains]) > 0.8, "and what is there is found"


def test_the_second_test_is_students_where_nothing_leans():
    gains = np.array([-0.5, -0.1, 0.2, 0.5, 0.8, 1.1, 1.5])
    assert skewed_t(gains) == pytest.approx(stats.ttest_1samp(gains, 0).pvalue)
    assert skewed_t([0.3] * 6) == 0.0
    assert skewed_t([0.3] * 5) == 1.0


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_fewer_than_six_touched_images_show_nothing(count):
    found = summarise([1.0 + i for i in range(count)] + [0.0] * 40)
    assert found.touched == count
    assert level_of(found) == "unclear"
    assert math.isnan(found.interval.low)


def test_six_touched_images_of_many_can_show_something():
    found = summarise([1.0, 2.0, 1.5, 0.4, 3.0, 2.0] + [0.0] * 14)
    assert level_of(found) == "better"
    assert found.p_visible == pytest.approx(2 / 64)
    assert sign_flip([1.0, 2.0, 1.5, 0.4, 3.0, 2.0]) == pytest.approx(2 / 64)


def test_a_few_losses_among_many_ties_are_not_worse():
    gains = [0.3, *np.linspace(-0.01, -0.001, 15), -0.3, -0.4, -0.5, -0.6]
    found = summarise(gains, band=0.05)
    assert (found.win, found.tie, found.loss) == (1, 15, 4)
    assert level_of(found) == "unclear"


def test_interval_is_reproducible_and_degenerates_honestly():
    values = [0.1, 0.4, -0.2, 0.3, 0.0, 0.2, 0.6]
    assert mean_interval(values) == mean_interval(values)
    same = mean_interval([0.0] * 9)
    assert (same.low, same.high) == (0.0, 0.0)
    assert math.isnan(mean_interval([0.5]).low)


def test_wilcoxon_is_scipys_and_treats_zeros_as_pratt_does():
    assert wilcoxon_pratt([1, 1, 1, 1]) == 0.125
    gains = [0.0, 0.0, 0.4, 0.5, -0.1, 0.4, 0.7, 0.3, 1.1]
    assert wilcoxon_pratt(gains) == pytest.approx(stats.wilcoxon(gains, zero_method="pratt").pvalue)
    many = np.random.default_rng(0).normal(0.2, 1, 60) * (np.arange(60) % 3 > 0)
    assert wilcoxon_pratt(many) == pytest.approx(stats.wilcoxon(many, zero_method="pratt").pvalue)
    assert wilcoxon_pratt([0.0] * 5) == 1.0


def test_rank_biserial_by_hand():
    # Ranks of |1|, |-2|, |3| are 1, 2, 3: (1 + 3 - 2) / 6.
    assert rank_biserial([1, -2, 3]) == pytest.approx(2 / 6)
    # With a zero ranked first: ranks 1 (zero), 2, 3: (3 - 2) / 5.
    assert rank_biserial([0, -1, 2]) == pytest.approx(1 / 5)
    assert rank_biserial([0, 0]) == 0.0


def test_holm_by_hand():
    # 0.01*3, max(0.03, 0.02*2), max(0.04, 0.5): monotone, NaN is no test.
    assert holm({"a": 0.02, "b": 0.5, "c": 0.01, "d": math.nan}) == pytest.approx(
        {"a": 0.04, "b": 0.5, "c": 0.03, "d": math.nan}, nan_ok=True
    )


def test_band_decides_win_tie_loss():
    found = summarise([0.3, 0.1, -0.05, -0.4, 0.0], band=0.1)
    assert (found.win, found.tie, found.loss) == (1, 3, 1)
    assert noise_band([-0.2, 0.1, math.nan]) == pytest.approx(np.quantile([0.1, 0.2], 0.95))
    assert noise_band([]) == 0.0


def test_terciles_share_ties():
    assert terciles([1, 2, 3, 4, 5, 6]) == ["low", "low", "mid", "mid", "high", "high"]
    assert set(terciles([5.0] * 7)) == {"mid"}


def test_nothing_to_summarise():
    found = summarise([])
    assert found.n == 0
    assert math.isnan(found.mean)
    with pytest.raises(ValueError, match="finite"):
        summarise([1.0, math.nan])
