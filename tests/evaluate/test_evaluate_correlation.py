"""Correlation tools against scipy and against data made from a known logistic."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from grefine.errors import ConfigError
from grefine.evaluate.correlation import agreement, fit_logistic5, logistic5

RNG = np.random.default_rng(3)
SCORES = RNG.normal(size=80)
OPINIONS = SCORES * 0.8 + RNG.normal(0, 0.5, 80)


def test_measures_are_scipys():
    found = agreement(SCORES, OPINIONS, resamples=200)
    assert found.srcc == pytest.approx(stats.spearmanr(SCORES, OPINIONS).statistic)
    assert found.plcc == pytest.approx(stats.pearsonr(SCORES, OPINIONS).statistic)
    assert found.krcc == pytest.approx(stats.kendalltau(SCORES, OPINIONS).statistic)
    assert found.fitted
    assert all(low < getattr(found, name) < high for name, (low, high) in found.intervals.items())


def test_logistic_straightens_what_is_curved():
    x = np.linspace(-4, 4, 60)
    y = logistic5(x, 40.0, 1.8, 0.5, 0.7, 50.0)
    found = agreement(x, y, resamples=0)
    assert found.plcc < 0.99
    assert found.plcc_fitted == pytest.approx(1.0, abs=1e-6)
    assert found.rmse == pytest.approx(0.0, abs=1e-3)
    assert found.rmse_raw == pytest.approx(np.sqrt(((x - y) ** 2).mean()))
    assert found.mae_raw == pytest.approx(np.abs(x - y).mean())
    # The scale of the metric does not matter to the fit, and falling metrics are fitted too.
    assert agreement(-1000 * x + 7, y, resamples=0).plcc_fitted == pytest.approx(1.0, abs=1e-6)


def test_what_cannot_be_said_is_nan():
    assert fit_logistic5([1, 2, 3], [1, 2, 3]) is None
    flat = agreement([1.0] * 8, np.arange(8))
    assert math.isnan(flat.srcc)
    assert math.isnan(flat.plcc_fitted)
    assert not flat.fitted
    assert agreement([1, 2, math.nan, 4], [1, 2, 3, 4]).n == 3


def test_each_prediction_needs_an_opinion():
    with pytest.raises(ConfigError, match="one prediction per item"):
        agreement([1, 2], [1])


def test_table_from_files(tmp_path):
    from benchmarks.agreement import agreement_table, to_markdown

    scores = "".join(f"images/{i}.png,a ball,{i % 10 + i / 50},{-i}\n" for i in range(40))
    (tmp_path / "scores.csv").write_text("path,prompt,good,bad\n" + scores)
    opinions = "".join(f"{i}.png,{i % 10},{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "mos.csv").write_text("image,mos,dataset\n" + opinions)
    table = agreement_table(tmp_path / "scores.csv", tmp_path / "mos.csv", resamples=50)
    assert set(table) == {(m, d) for m in ("good", "bad") for d in "ab"}
    assert table["good", "a"].n == 20
    assert table["good", "a"].srcc > 0.95 > table["bad", "a"].srcc
    assert "| good | a | 20 | 0.9" in to_markdown(table)
    assert table["good", "a"].mae_raw == pytest.approx(np.mean([i / 50 for i in range(0, 40, 2)]))
    with pytest.raises(ConfigError, match="no column 'opinion'"):
        agreement_table(tmp_path / "scores.csv", tmp_path / "mos.csv", opinion="opinion")
    (tmp_path / "other.csv").write_text("image,mos\nzzz.png,1\n")
    with pytest.raises(ConfigError, match="No image of"):
        agreement_table(tmp_path / "scores.csv", tmp_path / "other.csv")


def test_table_from_the_lines_of_the_maps(tmp_path):
    from benchmarks.agreement import agreement_table

    lines = [
        {"image": f"x/{i}.png", "p": i / 20, "a": None if i == 3 else -i / 20, "mask_area": 0.1} for i in range(20)
    ]
    (tmp_path / "maps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "mos.csv").write_text("image,mos\n" + "".join(f"{i}.png,{i}\n" for i in range(20)))
    table = agreement_table(tmp_path / "maps.jsonl", tmp_path / "mos.csv", resamples=0)
    assert {name: (found.n, round(found.srcc, 9)) for (name, _), found in table.items()} == {
        "p": (20, 1),
        "a": (19, -1),
    }
    (tmp_path / "bad.jsonl").write_text('{"image": "a.png", "p": 1}\n')
    with pytest.raises(ConfigError, match="line 1 is not what `grefine map --json` prints"):
        agreement_table(tmp_path / "bad.jsonl", tmp_path / "mos.csv")


@pytest.mark.parametrize("steep", [0.5, 3.0, 30.0])
def test_a_saturating_judge_is_fitted_whatever_its_shape(steep):
    """From a single start the fit is missed on some of these, or ends on a much worse curve."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        truth = rng.uniform(0, 1, 40)
        judge = 1 / (1 + np.exp(-steep * (truth - rng.uniform(0.2, 0.8)))) + 0.01 * rng.standard_normal(40)
        fitted = fit_logistic5(judge, truth)
        assert fitted is not None
        line = np.polyval(np.polyfit(judge, truth, 1), judge)
        assert ((fitted - truth) ** 2).sum() <= ((line - truth) ** 2).sum() + 1e-9
        assert math.isfinite(agreement(judge, truth, resamples=0).plcc_fitted)
