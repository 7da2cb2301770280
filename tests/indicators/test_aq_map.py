"""AQ-Map over a small random CLIP: Eq. 5 by hand, readings, odd prompts, batches, memory, refusals."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_clip import clip, parsed, picture, tokenizer

from grefine.errors import ConfigError, PromptError
from grefine.indicators.aq_map import AQMap
from grefine.indicators.encoding import TextFeatures, plain
from grefine.indicators.grids import GridMap
from grefine.indicators.pq_map import PQMap

IMAGES = [picture(64, 64), picture(90, 50, 1), picture(64, 128, 2)]
BALL = parsed(("a red ball", "ball", 0), ("on green grass", "grass", 0))
ALWAYS, NEVER = {"a_bound": 1.1}, {"a_bound": 0.0, "margin": 1.0}
"""Thresholds under which every noun, or no phrase, is defective."""


def build(calibration=None, **options) -> AQMap:
    return AQMap(clip(), tokenizer(), calibration=calibration, **options)


def test_scores_are_eq_5_on_the_class_token():
    result = build()(IMAGES[:1], [BALL])[0]
    words = TextFeatures(clip(), tokenizer())(["a red ball", "ball", "", BALL.text])
    with torch.no_grad():
        cls = F.normalize(clip()(clip().preprocess_pil(IMAGES[:1]))[0, 0], dim=-1)
        tau = clip().logit_scale.exp()
        expected = torch.sigmoid(tau * (words[[0, 1, 3]] - words[2]) @ cls)
    found = result.phrases[0]
    assert (found.a_phs, found.a_pns) == pytest.approx(expected[:2].tolist(), abs=1e-5)
    # Eq. 8 with beta 0.5 and two phrases.
    factors = [min(p.a_phs / 0.5, 1.0) for p in result.phrases]
    assert result.score == pytest.approx(expected[2].item() * factors[0] * factors[1], rel=1e-4)


def test_the_pair_with_the_empty_text_is_minus_empty_times_tau():
    aq, encoding = build(), build().encode(IMAGES[:1])
    words = aq.text_features(["ball", ""])
    values = (plain(encoding.whole, words[:1]) - plain(encoding.whole, words[1:]))[0, 1:, 0]
    grid = aq.aligned_map(encoding, 0, "ball").patches[0][1]
    expected = torch.sigmoid(clip().logit_scale.exp() * values).detach().numpy().reshape(8, 8)
    np.testing.assert_allclose(grid, expected, atol=1e-6)


def test_peak_is_the_best_place_of_the_map():
    aq = build({"phrase_score": "peak"})
    encoding = aq.encode(IMAGES)
    for index, result in enumerate(aq(IMAGES, [BALL] * 3, encoding)):
        assert result.phrases[0].a_pns == pytest.approx(
            float(aq.aligned_map(encoding, index, "ball").patches[0][1].max()), abs=1e-5
        )


def test_without_a_defect_nothing_is_to_be_drawn():
    result = build(NEVER)(IMAGES[:1], [BALL])[0]
    assert result.defects == ()
    assert result.edit.max() == 0.0
    assert [p.claimed.shape for p in result.phrases] == [(64, 64)] * 2
    assert all(p.region is None for p in result.phrases)


def test_missing_nouns_have_regions_and_claim_nothing():
    two = parsed(("a red ball", "ball", 0), ("a red ball", "ball", 1))
    for image, result in zip(IMAGES, build(ALWAYS)(IMAGES, [two] * 3), strict=True):
        assert {p.defect for p in result.phrases} == {"noun"}
        assert all(p.claimed is None and p.region.shape == (image.height, image.width) for p in result.phrases)
        assert result.values.shape == (image.height, image.width)
        np.testing.assert_allclose(
            1 - result.edit, (1 - result.phrases[0].region) * (1 - result.phrases[1].region), atol=1e-6
        )


def test_missing_roots_by_reading():
    grass = parsed(("on green grass", "grass", 0))
    areas = {}
    for how in ("place", "stretched", "raw", "whole", "skip"):
        areas[how] = build(ALWAYS, readings={"missing_root": how})(IMAGES[:1], [grass])[0].edit
    assert areas["stretched"].min() < 0.1 < areas["raw"].min()
    assert areas["stretched"].max() > 0.95
    assert areas["place"].max() > 0.5
    assert (areas["place"] > 0.5).mean() < (areas["stretched"] > 0.5).mean()
    assert areas["whole"].min() == 1.0
    assert areas["skip"].max() == 0.0
    assert np.ptp(areas["raw"]) < np.ptp(areas["stretched"])


def test_a_region_lies_on_the_ancestor():
    """'grass' is missing and hangs on 'ball', which is there: its region is the ball's, peak 1."""
    aq = build({"a_bound": 0.5})
    aq._phrase_scores = lambda whole, phrases: ([0.9, 0.1], [0.9, 0.1])  # type: ignore[method-assign]
    encoding = aq.encode(IMAGES[:1])
    found = aq(IMAGES[:1], [BALL], encoding)[0]
    ball = aq.aligned_map(encoding, 0, "ball").patches[0][1]
    assert [p.defect for p in found.phrases] == [None, "noun"]
    box = ((0, 0, 64, 64),)
    np.testing.assert_allclose(
        found.phrases[1].region, GridMap(((*box, ball / ball.max()),), (64, 64)).draw(), atol=1e-6
    )
    words = aq.aligned_map(encoding, 0, "a red ball").patches[0][1]
    claim = GridMap(((*box, words / words.max()),), (64, 64)).draw()
    np.testing.assert_allclose(found.phrases[0].claimed, claim, atol=1e-6)
    raw = build({"a_bound": 0.5}, readings={"region_scale": "none"})
    raw._phrase_scores = aq._phrase_scores  # type: ignore[method-assign]
    assert raw(IMAGES[:1], [BALL], encoding)[0].phrases[1].region.max() <= ball.max() + 1e-6


def test_style_and_excluded_phrases_are_never_defects():
    prompt = parsed(
        ("oil painting", "painting", 0), ("of a ball", "ball", 0), ("no people", "people", 1), style=(0,), negated=(2,)
    )
    result = build(ALWAYS)(IMAGES[:1], [prompt])[0]
    assert [p.defect for p in result.phrases] == [None, "noun", None]
    assert [p.region is None for p in result.phrases] == [True, False, True]
    assert [p.claimed for p in result.phrases] == [None] * 3
    alone = build(ALWAYS | {"beta": 1.0})(IMAGES[:1], [parsed(("of a ball", "ball", 0), text=prompt.text)])[0]
    both = build(ALWAYS | {"beta": 1.0})(IMAGES[:1], [prompt])[0]
    assert both.score == pytest.approx(alone.score, rel=1e-5), "they are not in Eq. 8"


@pytest.mark.parametrize(("text", "says"), [("", "empty"), ("  ", "empty"), ("8k, highly detailed", "nothing")])
def test_prompts_with_nothing_to_judge(text, says):
    result = build()(IMAGES[:1], [parsed(text=text)])[0]
    assert result.score is None
    assert result.edit.max() == 0.0
    assert says in result.note
    assert "Only p counts" in result.note


def test_long_prompts_say_what_was_cut():
    long = parsed(("a red ball", "ball", 0), text="a red ball on green grass " * 12)
    result = build()(IMAGES[:1], [long])[0]
    assert "tokens and CLIP reads 32" in result.note
    assert 0.0 <= result.score <= 1.0


def test_uncalibrated_is_said():
    assert "Uncalibrated" in build()(IMAGES[:1], [BALL])[0].note
    assert "Uncalibrated" not in build({"made_from": {"images": 64}})(IMAGES[:1], [BALL])[0].note


@pytest.mark.parametrize("redundant", ["empty", "none", "compete"])
@pytest.mark.parametrize("score", ["class", "peak"])
def test_every_reading_stays_in_range(redundant, score):
    aq = build({"redundant": redundant, "phrase_score": score, "a_bound": 0.6})
    for result in aq(IMAGES, [BALL] * 3):
        assert 0.0 <= result.score <= 1.0
        assert all(0.0 <= p.a_phs <= 1.0 and 0.0 <= p.a_pns <= 1.0 for p in result.phrases)
        assert result.values.min() >= 0.0
        assert result.values.max() <= 1.0


def test_batch_equals_singles_and_shares_pq_maps_encoding():
    aq = build({"a_bound": 0.9})
    prompts = [BALL, parsed(("a house", "house", 0)), BALL]
    from tiny_clip import prompts as learned

    encoding = PQMap(clip(), learned()).encode(IMAGES)
    for index, together in enumerate(aq(IMAGES, prompts, encoding)):
        alone = aq([IMAGES[index]], [prompts[index]])[0]
        np.testing.assert_allclose(together.values, alone.values, atol=2e-6)
        assert together.score == pytest.approx(alone.score, abs=1e-6)
        assert [p.defect for p in together.phrases] == [p.defect for p in alone.phrases]


def test_text_is_encoded_once():
    aq = build()
    aq(IMAGES, [BALL] * 3)
    assert len(aq.text_features._cache) == 6  # two phrases, two nouns, the prompt, the empty text
    before = aq.text_features(["ball"])
    aq(IMAGES, [BALL] * 3)
    assert torch.equal(before, aq.text_features(["ball"]))


def test_memory_is_flat_in_the_number_of_phrases():
    """Thirty defective phrases on a megapixel cost no more full-size maps than two."""
    image = picture(1024, 1024)
    aq = build(ALWAYS, tiles=1)
    encoding = aq.encode([image])
    peaks = []
    for count in (2, 30):
        prompt = parsed(*((f"a ball {i}", f"ball {i}", i) for i in range(count)))
        aq([image], [prompt], encoding)
        tracemalloc.start()
        result = aq([image], [prompt], encoding)[0]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(result.defects) == count
    assert peaks[1] < peaks[0] + 8 * 2**20
    assert peaks[1] < 6 * 4 * 2**20


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (["a", "b"], "2 prompts for 1 images"),
        ("a red ball", "got one text for 1 images"),
        ([3], "not int"),
        ([None], "not NoneType"),
    ],
)
def test_wrong_prompts(prompts, message):
    with pytest.raises(PromptError, match=message):
        build()(IMAGES[:1], prompts)


def test_wrong_options():
    with pytest.raises(ConfigError, match="a_combine"):
        build(readings={"a_combine": "sum"})
    with pytest.raises(ConfigError, match="did you mean 'missing_root'"):
        build(readings={"missing_rot": "raw"})
    with pytest.raises(ConfigError, match="of 3 images, but 1"):
        build()(IMAGES[:1], [BALL], build().encode(IMAGES))


def test_what_hangs_on_a_missing_thing_shares_its_place():
    prompt = parsed(("a house", "house", 0), ("with checks", "checks", 0))
    house, checks = build(ALWAYS)(IMAGES[:1], [prompt])[0].phrases
    assert np.array_equal(house.region, checks.region)
    assert (house.host, checks.host) == (None, 0)
    result = build(ALWAYS)(IMAGES[:1], [prompt])[0]
    np.testing.assert_allclose(result.edit, house.region, atol=1e-6)


def test_what_hangs_on_a_met_thing_claims_only_beside_it():
    def claim(*cells):
        values = np.zeros((8, 8), np.float32)
        for cell in cells:
            values[cell] = 1.0
        return GridMap((((0, 0, 80, 80), values),), (80, 80))

    house, checks = claim((1, 1), (1, 2)), claim((1, 3), (6, 6))
    phrases = parsed(("a house", "house", 0), ("with checks", "checks", 0)).phrases
    aq = build()
    assert aq._own_claim(0, phrases, [house, checks]) is house
    assert aq._own_claim(1, phrases, [house, checks]).patches[0][1].nonzero() == (1, 3)
    assert aq._own_claim(1, phrases, [None, checks]) is checks
    apart = (phrases[0], replace(phrases[1], beside=True))
    assert aq._own_claim(1, apart, [house, checks]) is checks
    background = claim(*((y, x) for y in range(8) for x in range(8)))
    assert aq._own_claim(1, phrases, [background, checks]) is checks


def test_open_ground_is_no_wrong_thing_of_its_colour(monkeypatch):
    """A yellow star is not put where only yellow sand is seen, but where something yellow stands on it."""
    box, claims = (0, 0, 80, 80), np.zeros((8, 8), np.float32)
    claims[3:] = 1.0  # sand
    claims[5, 5] = 0.4  # with something on it
    sand = GridMap(((box, claims),), (80, 80))
    aq, prompt = build(), parsed(("a yellow star", "star", 0), ("on yellow sand", "sand", 0))
    looks = np.zeros((8, 8), np.float32)
    looks[3:, 0], looks[5, 5] = 0.9, 0.8
    monkeypatch.setattr(aq, "aligned_map", lambda *_: GridMap(((box, looks),), (80, 80)))
    place = aq._region(aq.encode(IMAGES[:1]), 0, 0, prompt.phrases, None, [None, sand])
    assert place.patches[0][1][5, 5] > 0.5
    assert place.patches[0][1][:, :3].max() == 0.0


def test_another_may_decide_what_is_missing_and_clip_says_where():
    asked = []

    def asker(images, texts):
        asked.append((len(images), list(texts)))
        return [{"a red ball": 0.2, "ball": 0.7, "on green grass": 0.1, "grass": 0.3}.get(text, 0.8) for text in texts]

    plain = build(NEVER)
    found = plain.asking(asker)(IMAGES[:2], [BALL, parsed()])
    assert asked == [(5, [BALL.text, "a red ball", "ball", "on green grass", "grass"])]
    assert [phrase.defect for phrase in found[0].phrases] == ["attribute", "noun"]
    assert found[0].score == pytest.approx(0.8 * 0.4 * 0.2)
    assert found[1].score is None
    own = plain.aligned_map(plain.encode(IMAGES[:1]), 0, "ball").draw()
    np.testing.assert_allclose(found[0].phrases[0].region, own / own.max(), atol=0.02)
    assert plain(IMAGES[:1], [BALL])[0].defects == ()
