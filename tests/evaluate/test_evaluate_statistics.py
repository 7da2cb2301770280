"""Paired statistics against scipy, against values worked by hand, and against simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from grefine.evaluate.statistics import (
    bca_mean,
    holm,
    noise_band,
    rank_biserial,
    summarise,
    terciles,
    wilcoxon_pratt,
)


def test_interval_is_scipys_bca_where_samples_are_large():
    values = np.random.default_rng(0).exponential(size=400)
    ours = bca_mean(values)
    theirs = stats.bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(1)).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


@pytest.mark.parametrize(
    ("n", "draw", "truth"),
    [
        (60, lambda rng, n: rng.normal(0.3, 1.0, n), 0.3),
        (100, lambda rng, n: rng.normal(0.3, 1.0, n) * (rng.random(n) < 0.5), 0.15),
        (120, lambda rng, n: rng.exponential(1.0, n) - 0.8, 0.2),
    ],
    ids=["normal", "half untouched", "skewed"],
)
def test_interval_covers_a_known_gain_at_its_level(n, draw, truth):
    rng = np.random.default_rng(11)
    covered = np.mean([truth in bca_mean(draw(rng, n), resamples=1200, seed=i) for i in range(400)])
    assert 0.93 <= covered <= 0.97


def test_interval_is_reproducible_and_degenerates_honestly():
    values = [0.1, 0.4, -0.2, 0.3, 0.0, 0.2]
    assert bca_mean(values) == bca_mean(values)
    same = bca_mean([0.0] * 9)
    assert (same.low, same.high, same.method) == (0.0, 0.0, "exact")
    single = bca_mean([0.5])
    assert math.isnan(single.low)
    assert single.method == "none"


def test_wilcoxon_treats_zeros_as_pratt_does():
    gains = [0.0, 0.0, 0.0, 0.4, 0.5, -0.1, 0.9, 0.7, 0.3, 0.0, 1.1, -0.2]
    theirs = stats.wilcoxon(gains, zero_method="pratt", method="asymptotic").pvalue
    assert wilcoxon_pratt(gains) == pytest.approx(theirs)
    assert wilcoxon_pratt(gains) != pytest.approx(stats.wilcoxon(gains, method="asymptotic").pvalue)
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
