"""The benchmark's cases are what they say, and its verdicts follow the truth."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from grefine.errors import ConfigError
from lab.bench import intervals
from lab.bench.cases import (
    CHANGED,
    Cases,
    clean_cases,
    damaged_cases,
    half_and_half,
    misaligned_cases,
    spans,
    widened,
)
from lab.bench.repaint import phrase_first
from lab.bench.report import Report, Row
from lab.bench.run import control_masks
from lab.bench.verdicts import judge, outcome_rows, records, repair_rows
from lab.bench_judges.networks import Judges, as_jpeg, tie_bands
from lab.world.captions import matches
from lab.world.pictures import tensor_of
from lab.world.stream import BENCHMARK, CHECK, JUDGES, TRAIN, VALIDATE
from lab.world.vocabulary import COLOUR_RGB, HELD_OUT_DEFECT, HELD_OUT_PAIRS, TRAINING_DEFECTS


@pytest.fixture(scope="module")
def judges():
    return Judges.load()


@pytest.fixture(scope="module")
def bands(judges):
    return tie_bands(judges, 48)


@pytest.fixture(scope="module")
def bad():
    parts = [damaged_cases(24, 900), damaged_cases(8, 901, held_out=True)]
    return Cases.cat(parts + [misaligned_cases(kind, 10, 902 + i) for i, kind in enumerate(CHANGED)])


def test_training_and_the_benchmark_never_share_a_stream():
    used = [TRAIN, VALIDATE, JUDGES, CHECK]
    assert min(abs(seed - BENCHMARK) for seed in used) > 1000


def test_kinds_are_seen_or_held_out():
    assert set(damaged_cases(60, 1).kinds) == set(TRAINING_DEFECTS)
    assert set(damaged_cases(10, 2, held_out=True).kinds) == {HELD_OUT_DEFECT}


@pytest.mark.parametrize("kind", ["colour", "object", "texture", "missing", "relation", "count"])
def test_a_misaligned_caption_is_not_met_by_its_picture(kind):
    cases = misaligned_cases(kind, 20, 3)
    assert len(cases) == 20
    assert bool((cases.images != cases.clean).flatten(1).any(1).all())
    assert bool(cases.masks.flatten(1).any(1).all())
    change = (cases.images - cases.clean).abs().amax(1)
    assert float(change[cases.masks].mean()) > 4 * float(change[~widened(cases.masks, 6)].mean())


def test_few_pictures_hold_every_kind_of_misalignment():
    assert set(half_and_half(2, 8).kinds) > set(CHANGED)


def test_the_wrong_object_is_asked_for_by_its_caption():
    cases = misaligned_cases("texture", 20, 4)
    for index, caption in enumerate(cases.captions):
        thing = caption.objects[int(cases.slot[index])]
        assert thing.texture == int(cases.scenes.texture[index, cases.slot[index]])
        assert bool(matches(cases.scenes[[index]], [thing]).any())


def test_held_out_pairs_are_what_is_asked_for():
    cases = misaligned_cases("colour", 16, 5, "held_out")
    rows = torch.arange(len(cases))
    noun, colour = cases.scenes.noun[rows, cases.slot], cases.scenes.colour[rows, cases.slot]
    assert set(zip(noun.tolist(), colour.tolist(), strict=True)) <= HELD_OUT_PAIRS


def test_pictures_survive_the_way_through_pil(bad):
    assert torch.equal(tensor_of(bad.pictures), bad.images)


def test_spans_find_each_phrase(bad):
    for caption in bad.captions:
        found = spans(caption, caption.text)
        assert all(caption.text[a:b] == t.text for (a, b), t in zip(found, caption.objects, strict=True) if b)
        assert sum(b > 0 for _, b in found) == len(set(caption.objects))


def test_prompts_name_the_wrong_object_first(bad):
    rows = bad.misaligned
    for prompt, index in zip(phrase_first(bad[rows]), rows, strict=True):
        assert prompt.endswith(f" , {bad.captions[index].text}")


def test_doing_nothing_changes_nothing(judges, bands, bad):
    found = judge(judges, bands, bad, bad.images)
    assert not any(v.improved or v.worse or v.attribute_lost for v in found)
    assert all(v.untouched for v in found)
    assert repair_rows(found, "")["distance"].value == pytest.approx(1)


def test_the_truth_is_an_improvement(judges, bands, bad):
    found = judge(judges, bands, bad, bad.clean)
    rows = outcome_rows(found, "")
    assert rows["improved"].value > 0.85
    assert rows["worse"].value < 0.03
    for kind in CHANGED:
        assert np.mean([v.improved for v in found if v.kind == kind]) >= 0.8, kind
    assert repair_rows(found, "")["distance"].value == 0


def test_the_reverse_of_a_repair_is_worse(judges, bands, bad):
    """Judge the clean picture as before and the bad one as after: what was right is lost."""
    from dataclasses import replace

    rows = bad[[i for i, kind in enumerate(bad.kinds) if kind in ("colour", "object")]]
    found = judge(judges, bands, replace(rows, images=rows.clean), rows.images)
    assert np.mean([v.worse for v in found]) > 0.9
    assert not any(v.improved for v in found)


def test_ruin_is_worse_everywhere(judges, bands, bad):
    noise = torch.rand(bad.images.shape, generator=torch.Generator().manual_seed(0))
    found = judge(judges, bands, bad[bad.perceptual], noise[: len(bad.perceptual)])
    assert np.mean([v.worse for v in found]) > 0.9
    assert np.mean([v.improved for v in found]) < 0.05


def test_fixing_the_asked_at_the_cost_of_another_is_no_improvement(judges, bands):
    cases = misaligned_cases("colour", 40, 6)
    two = [i for i in range(len(cases)) if int(cases.scenes.present[i].sum()) > 1]
    cases = cases[two]
    rows = torch.arange(len(cases))
    other = (cases.slot + 1) % cases.scenes.present.sum(1)
    ruined = cases.clean.clone()
    palette = torch.tensor(COLOUR_RGB)
    for i in rows.tolist():
        another = (int(cases.scenes.colour[i, other[i]]) + 4) % len(palette)
        ruined[i][:, cases.objects[i, other[i]]] = palette[another][:, None]
    found = judge(judges, bands, cases, ruined)
    assert np.mean([v.worse for v in found]) > 0.9
    assert np.mean([v.improved for v in found]) < 0.05


def test_good_pictures(judges, bands):
    cases = clean_cases(40, 7)

    def rows(after):
        return outcome_rows(judge(judges, bands, cases, after), "", ("untouched", "worse"))

    same = rows(cases.images)
    assert (same["untouched"].value, same["worse"].value) == (1, 0)
    jpeg = rows(as_jpeg(cases.images))
    assert jpeg["untouched"].value == 0
    assert jpeg["worse"].value < 0.2, "what nobody sees is not worse"
    spoilt = cases.images.clone()
    spoilt[:, :, 20:40, 20:40] = 1 - spoilt[:, :, 20:40, 20:40]
    assert rows(spoilt)["worse"].value > 0.95


def test_controls_have_the_true_masks_area(bad):
    masks = control_masks(bad)
    assert masks["random"].sum() == masks["oracle"].sum()
    assert not torch.equal(masks["random"], masks["oracle"])
    assert bool(masks["full"].all())
    assert bool((masks["oracle"] | ~bad.masks).all()), "the true place lies inside"


def test_raw_rows_are_plain(judges, bands, bad):
    rows = records("run", bad[range(3)], judge(judges, bands, bad[range(3)], bad.clean[:3]))
    assert json.loads(json.dumps(rows)) == rows
    assert {"run", "index", "caption", "kind", "improved", "worse", "before", "after"} <= set(rows[0])


def test_the_report_keeps_its_schema():
    report = Report({"pipeline": "tiny"})
    report.add({"pq.auc": Row(0.99, 0.98, 1.0, 64), "exact": Row(0.5, 0.4, 0.6, 8), "x": intervals.EMPTY})
    report.absent["judge.moe"] = "the pipeline has no moe_agiqa"
    stored = json.loads(json.dumps(report.to_dict()))
    assert stored["schema"] == 1
    assert stored["rows"]["pq.auc"] == {"value": 0.99, "low": 0.98, "high": 1.0, "n": 64}
    assert set(stored["absent"]) == {"judge.moe", "x"}
    text = report.markdown()
    assert "| pq.auc | 0.990 | 0.980 .. 1.000 | 64 | 0.98 | 0.995 | reached |" in text
    assert "below |" in text
    assert "judge.moe: the pipeline has no moe_agiqa" in text
    with pytest.raises(ConfigError, match="twice"):
        report.add({"exact": Row(1, 1, 1, 1)})


def test_kinds_stand_side_by_side():
    report, row = Report(), Row(0.5, 0.4, 0.6, 48)
    report.add({f"whole.kind.blur.{name}": row for name in ("improved", "worse")})
    others = ("noguard.whole", "control.oracle", "control.perfect")
    report.add({f"{way}.kind.blur.improved": Row(i / 10, 0, 1, 48) for i, way in enumerate(others)})
    text = report.markdown()
    assert "| blur | 48 | 0.500 | 0.400 .. 0.600 | 0.500 | 0.000 | 0.100 | 0.200 | 0.45 | 0.7 | reached |" in text
    assert "whole.kind" not in text


def test_numbers_that_are_none_stay_valid_json():
    report = Report()
    report.rows["one"] = Row(1.0, math.nan, math.nan, 1)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["rows"]["one"]["low"] is None


def test_less_is_better_where_it_is():
    report = Report()
    report.rows["whole.worse"] = Row(0.005, 0, 0.02, 100)
    report.rows["clean.worse"] = Row(0.008, 0, 0.05, 100)
    report.rows["repair.distance"] = Row(1.2, 1.0, 1.3, 100)
    lines = {line.split(" | ")[0].strip("| "): line for line in report.markdown().splitlines()}
    assert lines["whole.worse"].endswith("| aim |")
    assert lines["clean.worse"].endswith("| reached |")
    assert lines["repair.distance"].endswith("| below |")


@pytest.mark.parametrize("size", [64])
def test_a_gallery_is_drawn(tmp_path, judges, bands, bad, size):
    from grefine.types import AlignmentMap, Decision, QualityMap, RefineResult, RepairPlan, Scores
    from lab.bench.cases import Outcome
    from lab.bench.run import draw_gallery

    cases = bad[range(4)]
    grey = np.full((size, size), 0.5, np.float32)
    plan = RepairPlan(cases.masks[0].numpy(), (), "")
    scores = Scores({"p": 0.5})
    decision = Decision("both", "because", False)
    result = RefineResult(QualityMap(grey, 0.5), AlignmentMap(grey, 0.5), plan, scores, scores, decision)
    found = judge(judges, bands, cases, cases.clean)
    draw_gallery(tmp_path / "g.png", cases, Outcome(cases.clean, [result] * 4), found)
    sheet = np.asarray(Image.open(tmp_path / "g.png"))
    assert sheet.shape[1] > 5 * 64
    assert sheet.std() > 20
