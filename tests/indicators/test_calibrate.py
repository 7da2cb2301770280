"""Calibration from quantiles: what is set from what, refusals, storage; and the self-check's three experiments.

The CLIP has random weights, so its words mean nothing: that is exactly what calibration has to notice.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_clip import clip, parsed, picture, prompts, tokenizer

from grefine.errors import ConfigError, PromptError
from grefine.indicators.aq_map import AQMap
from grefine.indicators.calibrate import _levels, _scale, calibrate, weights_digest
from grefine.indicators.calibration import ALPHA, BOUNDS, Calibration, needs_repair, worst_quality
from grefine.indicators.evidence import separation_of
from grefine.indicators.load import read_calibration, store_calibration
from grefine.indicators.pq_map import PQMap, cask
from grefine.indicators.selfcheck import paste_noise, selfcheck
from grefine.types import AlignmentMap, PhraseAlignment, QualityMap

NOUNS = ("ball", "cone", "house", "grass", "photo")
PROMPTS = [
    parsed((f"a red {NOUNS[i % 5]}", NOUNS[i % 5], 0), (f"on old {NOUNS[(i + 2) % 5]}", NOUNS[(i + 2) % 5], 0))
    for i in range(40)
]
IMAGES = [picture(64, 64, seed) for seed in range(40)]


def maps(**options):
    return PQMap(clip(), prompts(), **options), AQMap(clip(), tokenizer())


@pytest.fixture(scope="module")
def done():
    return calibrate(*maps(), iter(IMAGES), PROMPTS)


def test_quality_thresholds_are_quantiles_of_good_images(done):
    found = done.calibration
    pq = PQMap(clip(), prompts(), calibration=found)
    results = pq(IMAGES)
    scores = np.array([r.score for r in results])
    worst = np.array([worst_quality(r.values) for r in results])
    assert ((scores < found.p_gate - 1e-6) | (worst < found.worst_gate - 1e-6)).mean() <= 0.05
    assert found.p_gate <= np.quantile(scores, 0.1)
    assert np.mean([(1 - r.values > found.mask_threshold).mean() for r in results]) < 0.02
    assert np.median(scores) == pytest.approx(1.0, abs=0.05), "an ordinary good image has p near 1"


@pytest.mark.parametrize("total", [0.1, 0.3])
def test_all_gates_together_stay_within_the_stated_share(total):
    """Counted by the maps themselves on the images that were measured; more room opens the gates further."""
    made = calibrate(*maps(), IMAGES, PROMPTS, false_alarms=total)
    pq, aq = (
        kind(*parts, calibration=made.calibration)
        for kind, parts in zip((PQMap, AQMap), ((clip(), prompts()), (clip(), tokenizer())), strict=True)
    )
    results = zip(pq(IMAGES), aq(IMAGES, PROMPTS), strict=True)
    sent = np.mean([needs_repair(quality, alignment, made.calibration)[0] for quality, alignment in results])
    assert sent == pytest.approx(made.report["false_alarms"]["share"], abs=1e-3)
    assert made.report["false_alarms"]["expected"] <= total
    assert total / 3 < sent <= total
    assert made.calibration.made_from["false_alarms"] == total


def test_too_few_images_for_the_stated_share_are_named():
    made = calibrate(*maps(), IMAGES, PROMPTS, false_alarms=0.01)
    assert any("40 images are too few to hold false alarms to 1.0%" in warning for warning in made.warnings)
    with pytest.raises(ConfigError, match="share above 0 and at most 0.5, not 0"):
        calibrate(*maps(), IMAGES, PROMPTS, false_alarms=0)


def test_words_that_mean_nothing_switch_the_judgement_off(done):
    assert done.calibration.a_bound == 0.0
    assert any("missing phrases are not judged" in warning for warning in done.warnings)
    aq = AQMap(clip(), tokenizer(), calibration=done.calibration)
    assert all(not result.defects for result in aq(IMAGES[:4], PROMPTS[:4]))


def test_what_it_was_made_from_is_kept(done):
    made = done.calibration.made_from
    assert made["images"] == 40
    assert made["phrases"] == 80
    assert made["clip_sha256"] == weights_digest(clip())
    assert done.calibration.calibrated
    assert done.report["separation"].keys() == {"empty/class", "empty/peak", "none/class", "none/peak"}
    again = calibrate(*maps(), iter(IMAGES), PROMPTS)
    assert again.calibration == done.calibration, "the same images give the same constants"


def test_readings_can_be_fixed():
    found = calibrate(*maps(), IMAGES, PROMPTS, phrase_score="class", redundant="none").calibration
    assert (found.phrase_score, found.redundant) == ("class", "none")
    with pytest.raises(ConfigError, match="redundant must be one of empty, none, not 'compete'"):
        calibrate(*maps(), IMAGES, PROMPTS, redundant="compete")


def test_foreign_words_that_are_there_are_discounted():
    rng = np.random.default_rng(0)
    present, absent = rng.normal(1.0, 0.1, 400), rng.normal(0.0, 0.1, 240)
    foreign = np.concatenate([absent, rng.normal(1.0, 0.1, 160)])
    low, high = _levels(present, foreign)
    assert low == pytest.approx(0.0, abs=0.05)
    assert high == pytest.approx(1.0, abs=0.05)
    scale = _scale(low, high)
    levels = [1 / (1 + np.exp(-scale.tau * (x - scale.offset))) for x in (low, high)]
    assert levels == pytest.approx([0.1, 0.9])


def test_separation_is_the_area_under_the_curve():
    assert separation_of(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert separation_of(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert separation_of(np.array([0.0]), np.array([1.0, 2.0])) == 0.0
    assert separation_of(np.array([]), np.array([1.0])) == 0.5


@pytest.mark.parametrize(
    ("images", "asked", "error", "message"),
    [
        (IMAGES[:10], PROMPTS[:10], ConfigError, "at least 32 good images with prompts, got 10"),
        ([IMAGES[0]] * 40, PROMPTS, ConfigError, "Only 1 of the 40 calibration images are different"),
        (IMAGES, [PROMPTS[0]] * 40, ConfigError, r"too few different things \(ball, house\)"),
        (IMAGES[:35], PROMPTS, PromptError, "35 images for 40 prompts"),
        (IMAGES, PROMPTS[:35], PromptError, r"more images than prompts \(35\)"),
    ],
)
def test_sets_that_cannot_calibrate(images, asked, error, message):
    with pytest.raises(error, match=message):
        calibrate(*maps(), images, asked)


def test_stretched_maps_cannot_be_calibrated():
    with pytest.raises(ConfigError, match="calibrate with map_mode 'paper'"):
        calibrate(*maps(readings={"map_mode": "released"}), IMAGES, PROMPTS)


def test_storage(tmp_path, done):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "GRefinePipeline", "vae": ["a", "b"]}))
    store_calibration(tmp_path, done.calibration)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert list(index) == ["_class_name", "vae", "calibration"]
    assert Calibration.of(index["calibration"]) == done.calibration
    file = store_calibration(tmp_path / "own.json", done.calibration)
    assert read_calibration(file) == done.calibration
    file.write_text("{")
    with pytest.raises(ConfigError, match="Cannot read the calibration"):
        read_calibration(file)


def flat(value: float, score: float = 0.9) -> QualityMap:
    return QualityMap(np.full((20, 20), value, np.float32), score)


def test_gate_is_apart_from_the_mask():
    strict = Calibration(p_gate=0.5, worst_gate=0.4)
    met = AlignmentMap(np.ones((20, 20), np.float32), 0.9)
    assert needs_repair(flat(0.9), met, strict) == (
        False,
        "Every phrase is met and no place is worse than in good images.",
    )
    assert needs_repair(flat(0.9, score=0.3), met, strict)[0]
    spot = flat(0.9)
    spot.values[:3, :3] = 0.0
    assert "worst place has quality 0.000" in needs_repair(spot, met, strict)[1]
    phrase = PROMPTS[0].phrases[0]
    missed = AlignmentMap(met.values, 0.2, (PhraseAlignment(phrase, 0.1, 0.1, "noun"),))
    assert "'a red ball'" in needs_repair(flat(0.9), missed, strict)[1]
    assert needs_repair(flat(0.9), None, Calibration())[0], "without a gate the mask alone decides"


def roughness(image):
    grey = np.asarray(image.convert("L"), dtype=np.float32) / 255
    down, right = np.diff(grey, axis=0, prepend=grey[:1]), np.diff(grey, axis=1, prepend=grey[:, :1])
    return np.clip(np.abs(down) + np.abs(right), 0.0, 1.0)


class Knows:
    """Stands for AQ-Map: a is what a function says of a picture and its text."""

    def __init__(self, score):
        self.score = score

    def encode(self, images):
        return None

    def __call__(self, images, prompts, encoding=None):
        flat = np.full((64, 64), 0.5, np.float32)
        return [AlignmentMap(flat, self.score(i, p.text)) for i, p in zip(images, prompts, strict=True)]


def test_selfcheck_passes_what_sees():
    """Maps that know what to look for: sharp is good overall, rough spots are bad, prompts by heart."""
    own = {image.tobytes(): prompt.text for image, prompt in zip(IMAGES, PROMPTS, strict=True)}
    knows = Knows(lambda image, text: 0.9 if own[image.tobytes()] == text else 0.2)

    def blurred_is_flat(images):
        rough = [roughness(image) for image in images]
        return [QualityMap(1 - one, float(one.mean())) for one in rough]

    checks = selfcheck(blurred_is_flat, knows, IMAGES[:6], PROMPTS[:6])  # type: ignore[arg-type]
    assert [(check.passed, check.right) for check in checks] == [(True, 6)] * 3


def test_selfcheck_fails_what_does_not_see():
    blank = np.full((64, 64), 0.5, np.float32)
    blind = (lambda images: [QualityMap(blank, 0.5) for _ in images]), Knows(lambda image, text: 0.5)
    checks = selfcheck(*blind, IMAGES[:6], PROMPTS[:6])  # type: ignore[arg-type]
    assert [check.passed for check in checks] == [False, False, False]


def test_selfcheck_runs_on_real_components():
    checks = selfcheck(*maps(), IMAGES[:4], PROMPTS[:4])
    assert [check.total for check in checks] == [4, 4, 4]
    assert all(np.isfinite(check.change) for check in checks)


def test_selfcheck_refusals():
    with pytest.raises(ConfigError, match="at least 4 images"):
        selfcheck(*maps(), IMAGES[:3], PROMPTS[:3])
    with pytest.raises(PromptError, match="one prompt per image"):
        selfcheck(*maps(), IMAGES[:4], PROMPTS[:3])
    with pytest.raises(ConfigError, match="All prompts of the self-check are alike"):
        selfcheck(*maps(), IMAGES[:4], [PROMPTS[0]] * 4)


def test_noise_is_pasted_where_it_says():
    image = picture(70, 50, 3)
    spoilt, (left, top, right, bottom) = paste_noise(image, 5)
    change = np.abs(np.asarray(spoilt, dtype=int) - np.asarray(image, dtype=int)).sum(axis=2) > 0
    inside = np.zeros_like(change)
    inside[top:bottom, left:right] = True
    assert change[inside].mean() > 0.9
    assert not change[~inside].any()


def test_digest_tells_weights_apart():
    other = torch.nn.Linear(3, 3)
    same = weights_digest(other)
    assert weights_digest(other) == same
    with torch.no_grad():
        other.weight[0, 0] += 1e-3
    assert weights_digest(other) != same


@pytest.mark.parametrize(("what", "then"), [("dtype", "bfloat16"), ("backbone", "ViT 12x768, patches of 16 at 224")])
def test_a_calibration_of_another_clip_or_precision_is_refused(done, what, then):
    pq, aq = maps()
    assert done.calibration.made_from[what] != then
    other = replace(done.calibration, made_from=done.calibration.made_from | {what: then})
    PQMap(pq.clip, pq.prompts, calibration=done.calibration)
    for build in (
        lambda: PQMap(pq.clip, pq.prompts, calibration=other),
        lambda: AQMap(aq.clip, tokenizer(), calibration=other),
    ):
        with pytest.raises(ConfigError, match=f"measured with CLIP's {what} '{then}'.*calibrate anew"):
            build()


def test_the_unmeasured_threshold_of_the_mask_is_eq_3_at_even_chances():
    alpha = torch.tensor([mean * bound for mean, bound in zip(ALPHA, BOUNDS, strict=True)])
    even = float(cask(torch.full((4,), 0.5), alpha))
    assert Calibration().mask_threshold == round(1 - even, 2) == 0.81
