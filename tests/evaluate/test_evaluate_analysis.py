"""Findings from long tables made by hand or by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grefine.evaluate.analysis import analyse, main_column
from grefine.evaluate.results import axis_sentence, headline, level_of, sentences, verdict_of
from grefine.evaluate.statistics import summarise
from grefine.evaluate.tables import AFTER, BEFORE, NOISE, ScoreRow
from grefine.types import MetricSpec


def rows_of(metric, before, after, noise=()):
    rows = [ScoreRow(f"{i:03d}", BEFORE, metric, float(v)) for i, v in enumerate(before)]
    rows += [ScoreRow(f"{i:03d}", AFTER, metric, float(v)) for i, v in enumerate(after)]
    return rows + [ScoreRow(f"{i:03d}", NOISE + "moved", metric, float(v)) for i, v in enumerate(noise)]


RNG = np.random.default_rng(5)
BASE = RNG.normal(50, 10, 90)


def test_identity_is_no_change():
    found = analyse(rows_of("m", BASE, BASE, BASE + 0.1), {"m": MetricSpec("m")})
    (metric,) = found.metrics
    assert (metric.gain.mean, metric.delta, metric.gain.tie, metric.gain.p) == (0, 0, 90, 1.0)
    assert verdict_of(found) == "no change"
    assert all(s.level == "no change" for s in found.strata if s.axis == "perceptual")


@pytest.mark.parametrize(("direction", "verdict"), [("higher", "better"), ("lower", "worse")])
def test_direction_turns_gains(direction, verdict):
    found = analyse(rows_of("m", BASE, BASE + 5), {"m": MetricSpec("m", direction=direction)})
    assert verdict_of(found) == verdict
    assert found.metrics[0].delta == pytest.approx(5)
    assert found.negative_optimisations == ((1, 1) if verdict == "worse" else (0, 1))


def test_what_steered_the_refinement_says_nothing():
    rows = rows_of("guide", BASE, BASE + 30) + rows_of("judge", BASE, BASE - 2)
    specs = {"guide": MetricSpec("guide", used_in_loop=True), "judge": MetricSpec("judge")}
    found = analyse(rows, specs)
    assert verdict_of(found) == "worse"
    assert found.axes[0].metrics == ("judge",)
    assert [m.note for m in found.metrics] == ["used in the loop", ""]
    assert any("guide" in sentence and "no evidence" in sentence for sentence in sentences(found))
    alone = analyse(rows_of("guide", BASE, BASE + 30), {"guide": specs["guide"]})
    assert verdict_of(alone) == "no evidence"
    assert math.isnan(alone.metrics[0].p_holm)


def test_nine_dimensions_are_one_witness():
    columns = [f"net.{name}" for name in ("overall", "sharpness", "colour")]
    rows = [row for column in columns for row in rows_of(column, BASE, BASE + 1)]
    found = analyse(rows, dict.fromkeys(columns, MetricSpec("net")))
    assert [m.metric for m in found.metrics if m.evidence] == ["net.overall"]
    assert found.metrics[1].note == "part of net"
    assert main_column("net", columns) == "net.overall"
    assert main_column("net", columns[1:]) == "net.sharpness"


def test_a_judge_of_both_speaks_for_each_axis_with_its_own_value():
    spec = MetricSpec("both", axis="both", values={"both.quality": "perceptual", "both.alignment": "alignment"})
    rows = rows_of("both.quality", BASE, BASE + 1) + rows_of("both.alignment", BASE, BASE - 1)
    found = analyse(rows, dict.fromkeys(spec.values, spec))
    assert [axis.metrics for axis in found.axes] == [("both.quality",), ("both.alignment",)]
    assert [axis.gain.mean > 0 for axis in found.axes] == [True, False]
    alone = analyse(rows_of("both.quality", BASE, BASE + 1), {"both.quality": spec})
    assert [axis.metrics for axis in alone.axes] == [("both.quality",)] * 2


def test_noise_is_the_band():
    noise = BASE + np.where(np.arange(90) % 2, 2.0, -2.0)
    found = analyse(rows_of("m", BASE, BASE + 1.5, noise), {"m": MetricSpec("m")})
    assert found.metrics[0].gain.band == pytest.approx(2.0)
    assert found.metrics[0].gain.tie == 90
    assert verdict_of(found) == "no change"


def test_thirds_show_who_gained():
    worst = np.quantile(BASE, 1 / 3) > BASE
    scores = np.arange(90) % 7
    rows = rows_of("pq_map", BASE, BASE) + rows_of("m", scores, scores + 2.0 * worst)
    specs = {"pq_map": MetricSpec("pq_map", used_in_loop=True), "m": MetricSpec("m")}
    found = analyse(rows, specs)
    assert found.cell("perceptual", "low").level == "better"
    assert found.cell("perceptual", "high").level == "no change"
    assert found.cell("perceptual", "low").stratified_by == "pq_map"
    assert found.cell("alignment", "low").level == "no evidence"


def test_thirds_do_not_invent_gains_where_there_is_only_noise():
    """Sorting by the judge's own noisy score would show a gain in the low third; the other metrics sort instead."""
    means, alone = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=150)
        rows, specs = [], {name: MetricSpec(name) for name in "abc"}
        for name in specs:
            rows += rows_of(name, truth + rng.normal(size=150), truth + rng.normal(size=150))
        low = analyse(rows, specs).cell("perceptual", "low")
        assert low.stratified_by == "the other metrics' scores of the input"
        means.append(low.gain.mean)
        single = analyse([row for row in rows if row.metric == "a"], {"a": specs["a"]})
        alone.append(single.cell("perceptual", "low").gain.mean)
        assert "regression to the mean" in single.notes[0]
    assert abs(np.mean(means)) < 0.12
    assert np.mean(alone) > 0.3


def test_groups():
    groups = {f"{i:03d}": "AB"[i % 2] for i in range(90)}
    after = BASE + np.where(np.arange(90) % 2, 5, 0)
    found = analyse(rows_of("m", BASE, after), {"m": MetricSpec("m")}, groups=groups)
    assert {group: axes[0].level for group, axes in found.groups.items()} == {"A": "no change", "B": "better"}
    before, later = found.group_means["B"]["m"]
    assert later - before == pytest.approx(5)


def test_nan_costs_one_image_not_the_row():
    after = BASE + 3
    after[4] = math.nan
    found = analyse(rows_of("m", BASE, after), {"m": MetricSpec("m")})
    assert found.metrics[0].gain.n == 89
    assert verdict_of(found) == "better"


def test_mixed_axes():
    rows = rows_of("p", BASE, BASE + 5) + rows_of("a", BASE, BASE - 5)
    found = analyse(rows, {"p": MetricSpec("p"), "a": MetricSpec("a", axis="alignment")})
    assert verdict_of(found) == "mixed"
    assert "helped in one way" in headline(found)
    assert axis_sentence(found.axes[1], found.n).startswith("Alignment with the prompt fell: 0 of 90")


@pytest.mark.parametrize(
    ("gains", "band", "level"),
    [
        ([], 0, "no evidence"),
        ([0.0], 0, "no change"),
        ([3.0], 0, "unclear"),
        ([3.0, 2.0, 4.0], 0, "unclear"),
        ([3.0, 2.0, 4.0, 1.0, 5.0, 6.0], 0, "better"),
        ([3.0, 2.0, -4.0], 0, "unclear"),
        ([0.0] * 90 + [5.0] * 10, 1.0, "better"),
        (list(np.random.default_rng(0).normal(0, 1, 60)), 0.01, "unclear"),
    ],
)
def test_levels(gains, band, level):
    assert level_of(summarise(gains, band)) == level


def test_one_image_is_said_to_be_too_few():
    found = analyse(rows_of("m", [1.0], [2.0]), {"m": MetricSpec("m")})
    assert verdict_of(found) == "unclear"
    assert any("one image is not as before: too few" in sentence for sentence in sentences(found))


def test_holm_counts_only_evidence():
    rows = rows_of("a", BASE, BASE + RNG.normal(0.2, 1, 90))
    specs = {name: MetricSpec(name, used_in_loop=name == "loop") for name in ("a", "b", "loop")}
    rows += [ScoreRow(r.image, r.stage, name, r.value) for r in rows for name in ("b", "loop")]
    found = {m.metric: m for m in analyse(rows, specs).metrics}
    assert found["a"].p_holm == pytest.approx(min(1.0, 2 * found["a"].gain.p))
    assert math.isnan(found["loop"].p_holm)


def test_a_metric_that_moves_by_itself_is_unfit_and_says_so():
    noise = np.where(np.arange(90) % 2, 0.4, -0.4)
    scores = np.full(90, 0.5)
    rows = rows_of("shaky", scores, scores + 0.5, scores + noise) + rows_of("calm", scores, scores, scores)
    specs = {name: MetricSpec(name, range=(0.0, 1.0)) for name in ("shaky", "calm")}
    found = analyse(rows, specs)
    assert [m.metric for m in found.metrics if m.evidence] == ["calm"]
    assert verdict_of(found) == "no change"
    assert any(s.endswith("move them too far: shaky (0.4).") for s in sentences(found))


def test_the_headline_says_when_it_is_about_a_few():
    after = BASE.copy()
    after[:8] += 5
    after[8:80] += 0.01
    noise = BASE + 0.1
    found = analyse(rows_of("m", BASE, after, noise), {"m": MetricSpec("m")})
    assert headline(found) == "It helped a few images"
    after[8:80] = BASE[8:80]
    found = analyse(rows_of("m", BASE, after, noise), {"m": MetricSpec("m")})
    assert headline(found) == "It helped"
    assert "8 of 90 images gained, 82 stayed within the judges' own noise (82 of them exactly the same)" in (
        axis_sentence(found.axes[0], 90)
    )


def test_the_headline_holds_its_level_over_both_axes():
    rng = np.random.default_rng(3)
    specs = {"p": MetricSpec("p"), "a": MetricSpec("a", axis="alignment")}
    claims = 0
    for _ in range(300):
        rows = [row for name in specs for row in rows_of(name, BASE[:20], BASE[:20] + rng.normal(size=20))]
        claims += verdict_of(analyse(rows, specs)) in ("better", "worse", "mixed")
    assert claims <= 24, "5 % of 300 are 15, plus chance"


def test_a_comparison_of_any_two_folders_speaks_of_no_refinement():
    specs = {"p": MetricSpec("p"), "pq_map": MetricSpec("pq_map", used_in_loop=True)}
    rows = rows_of("p", BASE, BASE + 5) + rows_of("pq_map", BASE, BASE)
    said = " ".join(sentences(analyse(rows, specs)))
    assert "refine" not in said
    assert "steered" not in said
