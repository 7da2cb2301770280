"""Eq. 6 and 8 by hand: the worked example, each reading, and the cases in which the printed formula fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_clip import parsed

from grefine.errors import ConfigError
from grefine.indicators.defects import (
    alignment_score,
    carrier_phrase,
    combine_regions,
    find_defect,
    hang_together,
    region_phrase,
)
from grefine.indicators.readings import Readings

GIRL = parsed(("a girl", "girl", 0), ("with long hair", "hair", 0), ("blowing in the wind", "wind", 1)).phrases
P = np.array([[0.8, 0.3], [0.9, 0.6]])
R_HAIR = np.array([[0.9, 0.2], [0.1, 0.0]])


def test_worked_example_wind_is_drawn_on_the_hair():
    kinds = [find_defect(0.9, 0.9, 0.5), find_defect(0.8, 0.8, 0.5), find_defect(0.25, 0.3, 0.5)]
    assert kinds == [None, None, "noun"]
    assert region_phrase(2, GIRL, kinds, Readings()) == 1
    D = 1 - P + combine_regions([R_HAIR], (2, 2))
    np.testing.assert_allclose(D, [[1.1, 0.9], [0.2, 0.4]])
    assert (D > 0.5).tolist() == [[True, True], [False, False]]


def test_worked_example_without_a_defect_only_bad_pixels_count():
    D = 1 - P + combine_regions([], (2, 2))
    np.testing.assert_allclose(D, [[0.2, 0.7], [0.1, 0.4]])
    assert (D > 0.5).tolist() == [[False, True], [False, False]]


def test_worked_example_two_defects_in_two_places():
    regions = [np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 1.0]])]
    np.testing.assert_allclose(combine_regions(regions, (2, 2)), [[1, 0], [0, 1]])
    np.testing.assert_allclose(combine_regions(regions, (2, 2), "max"), [[1, 0], [0, 1]])
    # The printed product repairs neither: this is why it is not the default.
    np.testing.assert_allclose(combine_regions(regions, (2, 2), "product"), [[0, 0], [0, 0]])


def test_one_defect_is_the_same_under_every_combination():
    for how in ("noisy_or", "max", "product"):
        np.testing.assert_allclose(combine_regions([R_HAIR], (2, 2), how), R_HAIR)


def test_worked_example_scores():
    assert alignment_score(0.8, [0.9, 0.25], 0.5, "product") == pytest.approx(0.4)
    assert alignment_score(0.8, [], 0.5) == 0.8
    assert alignment_score(0.8, [0.6, 0.7], 0.5) == pytest.approx(0.8)


def test_long_prompts_do_not_collapse_the_score():
    weak = [0.4] * 12
    assert alignment_score(1.0, weak, 0.5, "product") == pytest.approx(0.8**12)
    assert alignment_score(1.0, weak, 0.5, "worst3") == pytest.approx(0.8**3)
    assert alignment_score(1.0, weak, 0.5, "geometric") == pytest.approx(0.8)
    assert alignment_score(1.0, weak, 0.5, "worst") == pytest.approx(0.8)


def test_attributes_count_only_when_the_noun_is_there():
    assert find_defect(0.1, 0.2, 0.5) == "noun"
    assert find_defect(0.6, 0.9, 0.5) == "attribute"
    assert find_defect(0.88, 0.9, 0.5, margin=0.05) is None
    assert find_defect(0.9, 0.9, 0.5) is None


def test_region_of_an_attribute_is_its_own():
    assert region_phrase(1, GIRL, [None, "attribute", None], Readings()) == 1


def test_printed_equation_swaps_the_regions():
    printed = Readings(defect_regions="equation")
    assert region_phrase(2, GIRL, [None, None, "noun"], printed) == 2
    assert region_phrase(2, GIRL, [None, None, "attribute"], printed) == 1


def test_a_missing_ancestor_is_climbed_over():
    kinds = [None, "noun", "noun"]
    assert region_phrase(2, GIRL, kinds, Readings()) == 0
    assert region_phrase(2, GIRL, kinds, Readings(ancestor="literal")) == 1


def test_another_of_a_kind_does_not_belong_on_the_first():
    cats = parsed(("a yellow cat", "cat", 0), ("with a white cat", "cat", 0)).phrases
    assert region_phrase(1, cats, [None, "noun"], Readings()) is None


def test_what_stands_beside_a_thing_does_not_belong_on_it():
    hat = (*GIRL[:2], replace(GIRL[2], ancestor=1, beside=True))
    assert region_phrase(2, hat, [None, None, "noun"], Readings()) == 0, "listed with the hair: on the girl"
    dog = (GIRL[0], replace(GIRL[1], beside=True))
    assert region_phrase(1, dog, [None, "noun"], Readings()) is None
    assert region_phrase(1, dog, [None, "noun"], Readings(ancestor="literal")) == 0


def test_what_hangs_together_and_what_does_not():
    assert hang_together(0, 2, GIRL)
    assert hang_together(2, 0, GIRL)
    beside = (GIRL[0], GIRL[1], replace(GIRL[2], beside=True))
    assert not hang_together(0, 2, beside)
    assert hang_together(0, 1, beside)


def test_style_and_excluded_ancestors_have_no_place():
    painting = parsed(("oil painting", "painting", 0), ("of a girl", "girl", 0), style=(0,)).phrases
    assert region_phrase(1, painting, [None, "noun"], Readings()) is None
    crowd = parsed(("no people", "people", 0), ("in hats", "hats", 0), negated=(0,)).phrases
    assert region_phrase(1, crowd, [None, "noun"], Readings()) is None


def test_a_missing_root_has_no_ancestor():
    assert region_phrase(0, GIRL, ["noun", None, None], Readings()) is None


def test_unknown_readings_are_named():
    with pytest.raises(ConfigError, match="a_combine.*noisy_or, max, product.*did you mean 'max'"):
        Readings.of("grefine, a_combine=maxx")


def test_what_hangs_on_a_missing_thing_is_drawn_with_it():
    checks = parsed(("a house", "house", 0), ("with checks", "checks", 0), ("with edges", "edges", 1)).phrases
    assert carrier_phrase(1, checks, ["noun", "noun", None]) == 0
    assert carrier_phrase(2, checks, ["noun", "noun", "noun"]) == 0, "the outermost"
    assert carrier_phrase(1, checks, [None, "noun", None]) is None, "the house is there: on the house"
    assert carrier_phrase(0, checks, ["noun", "noun", None]) is None
    beside = (checks[0], replace(checks[1], beside=True))
    assert carrier_phrase(1, beside, ["noun", "noun"]) is None
