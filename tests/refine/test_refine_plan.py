"""Maps to plans: the worked example's numbers, gate and cut apart, protection, areas, crops, kinds and strengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from grefine.indicators.calibration import Calibration
from grefine.refine.plan import DIFFUSE, Findings, Planner, automatic_mask, edit_map
from grefine.refine.regions import LARGEST_CROP, binarise, connected_parts, crop_box, split_large, working_size
from grefine.refine.settings import PLAIN, RefineConfig, UNetTraits
from grefine.types import AlignmentMap, ParsedPrompt, Phrase, PhraseAlignment, QualityMap

SIDE = 64
GATED = Calibration(p_gate=0.7, mask_threshold=0.5)
SEES = UNetTraits(damage=True, strength=0.4)


def square(top, left, size, value=1.0, base=0.0):
    values = np.full((SIDE, SIDE), base, np.float32)
    values[top : top + size, left : left + size] = value
    return values


def phrase(noun, ancestor):
    return Phrase(noun, ("a", noun), ((0, 1), (2, 2 + len(noun))), ancestor)


def findings(P=None, p=0.5, phrases=(), text="a ball on the grass", user=None):
    P = np.ones((SIDE, SIDE), np.float32) if P is None else P
    kept = np.ones_like(P)
    for asked in phrases:
        if asked.region is not None:
            kept = kept * (1 - asked.region)
    aligned = AlignmentMap(kept, 0.5 if phrases else None, tuple(phrases))
    return Findings(QualityMap(P, p), aligned, ParsedPrompt(text, (), ()), user)


def plan(found, calibration=GATED, working=64, traits=PLAIN, **settings):
    settings = {"dilate": 0.0, "max_upscale": 4.0} | settings
    return Planner(RefineConfig(**settings), calibration, working, traits).plan(found)


def test_the_worked_example():
    P = np.array([[0.8, 0.3], [0.9, 0.6]], np.float32)
    region = np.array([[0.9, 0.2], [0.1, 0.0]], np.float32)
    D = 1 - P + region
    assert binarise(D, 0.5).tolist() == [[True, True], [False, False]]
    assert binarise(1 - P, 0.5).tolist() == [[False, True], [False, False]]


def test_a_cut_at_the_mean_finds_the_bad_square():
    values = square(10, 10, 20, 0.9, 0.1)
    assert np.array_equal(binarise(values, "mean"), values > 0.5)
    dull = findings(square(10, 10, 20, 0.5, 0.9), p=0.3)
    assert plan(dull, mask_threshold="mean").area == pytest.approx(400 / SIDE**2)
    assert not plan(dull, mask_threshold=0.6).regions


def test_a_good_image_needs_nothing_whatever_its_weakest_cells_say():
    found = findings(square(5, 5, 20, 0.1, 1.0), p=0.9)
    assert not plan(found).regions
    assert "no place is worse" in plan(found).note
    assert plan(found, gate=False).regions


def test_a_misaligned_good_image_is_not_repainted_for_quality():
    missing = PhraseAlignment(phrase("ball", 0), 0.1, 0.1, "noun", square(40, 40, 16))
    found = findings(square(5, 5, 20, 0.1, 1.0), p=0.9, phrases=[missing])
    planned = plan(found)
    assert [region.kind for region in planned.regions] == ["noun"]
    assert not planned.mask[5:25, 5:25].any()


def test_bad_as_a_whole_but_nowhere_in_particular_is_left_to_stage_2():
    planned = plan(findings(np.full((SIDE, SIDE), 0.6, np.float32), p=0.2))
    assert planned.note == DIFFUSE
    assert planned.restore


def test_too_much_is_a_new_generation_not_a_repair():
    planned = plan(findings(np.zeros((SIDE, SIDE), np.float32), p=0.1))
    assert "new generation" in planned.note
    assert not planned.regions
    assert not planned.restore


def test_met_phrases_protect_their_cells_but_not_against_what_belongs_on_them():
    woman = PhraseAlignment(phrase("woman", 0), 0.9, 0.9, None, None, square(0, 0, 32))
    dress = PhraseAlignment(phrase("dress", 0), 0.1, 0.1, "noun", square(0, 0, 32), host=0)
    cat = PhraseAlignment(phrase("cat", 2), 0.1, 0.1, "noun", square(16, 16, 32))
    own = findings(phrases=[woman, dress]).alignment
    assert edit_map(own, 0.5)[:32, :32].min() == 1.0
    other = findings(phrases=[woman, cat]).alignment
    E = edit_map(other, 0.5)
    assert E[16:32, 16:32].max() == 0.0
    assert E[32:48, 32:48].min() == 1.0
    assert np.array_equal(edit_map(other, None), other.edit)


def test_what_a_defect_has_all_over_does_not_protect_it_but_what_it_has_in_part_does():
    house = PhraseAlignment(phrase("house", 0), 0.1, 0.9, "attribute", square(0, 0, 32))
    checks = PhraseAlignment(phrase("checks", 0), 0.9, 0.9, None, None, square(0, 0, 30))
    door = PhraseAlignment(phrase("door", 0), 0.9, 0.9, None, None, square(0, 0, 12))
    beside = PhraseAlignment(replace(phrase("tree", 0), beside=True), 0.9, 0.9, None, None, square(0, 0, 30))
    assert edit_map(findings(phrases=[house, checks]).alignment, 0.5)[:32, :32].min() == 1.0
    with_door = edit_map(findings(phrases=[house, door]).alignment, 0.5)
    assert (with_door[:12, :12].max(), with_door[12:32, 12:32].min()) == (0.0, 1.0)
    assert edit_map(findings(phrases=[house, beside]).alignment, 0.5)[:30, :30].max() == 0.0


def test_a_missing_thing_takes_its_own_dots_with_it_but_not_what_stands_by_it():
    cone = PhraseAlignment(phrase("cone", 0), 0.1, 0.1, "noun", square(0, 0, 32))
    dots = PhraseAlignment(phrase("dots", 0), 0.9, 0.9, None, None, square(4, 4, 16))
    dog = PhraseAlignment(phrase("dog", 0), 0.9, 0.9, None, None, square(24, 24, 24))
    with_dots, with_dog = (findings(phrases=[cone, other]).alignment for other in (dots, dog))
    assert edit_map(with_dots, 0.5)[:32, :32].min() == 1.0
    assert edit_map(with_dog, 0.5)[24:32, 24:32].max() == 0.0
    for other, prompt in ((dots, "a cone a dots , "), (dog, "a cone , ")):
        region = plan(findings(phrases=[cone, other])).regions[0]
        assert region.prompt.startswith(prompt)


def test_a_place_that_two_missing_phrases_share_counts_once():
    house = PhraseAlignment(phrase("house", 0), 0.1, 0.1, "noun", square(0, 0, 32, 0.5))
    checks = PhraseAlignment(phrase("checks", 0), 0.1, 0.1, "noun", square(0, 0, 32, 0.5), host=0)
    assert edit_map(findings(phrases=[house, checks]).alignment, 0.5).max() == 0.5


def test_kinds_strengths_prompts_and_reasons():
    missing = PhraseAlignment(phrase("ball", 0), 0.1, 0.1, "noun", square(0, 0, 16))
    wrong = PhraseAlignment(phrase("box", 1), 0.2, 0.8, "attribute", square(48, 48, 16))
    planned = plan(findings(square(0, 40, 16, 0.2, 1.0), p=0.3, phrases=[missing, wrong]), context=0.0)
    by_kind = {region.kind: region for region in planned.regions}
    assert set(by_kind) == {"noun", "attribute", "perceptual"}
    assert by_kind["noun"].strength >= 0.85
    assert by_kind["attribute"].strength >= 0.65
    assert by_kind["perceptual"].strength == pytest.approx(0.8)
    assert by_kind["noun"].prompt == "a ball , a ball on the grass"
    assert by_kind["perceptual"].prompt == "a ball on the grass"
    assert "'a ball' is not seen" in by_kind["noun"].reason
    assert "not as asked" in by_kind["attribute"].reason
    assert by_kind["noun"].phrases == (0,)


def test_growing_the_mask_does_not_hide_who_asked_for_it():
    missing = PhraseAlignment(phrase("ball", 0), 0.1, 0.1, "noun", square(20, 20, 6, 0.8))
    (region,) = plan(findings(phrases=[missing]), dilate=0.1).regions
    assert region.mask.sum() > 4 * 36
    assert region.kind == "noun"
    assert region.prompt.startswith("a ball , ")


def test_a_mask_does_not_grow_into_what_is_well():
    missing = PhraseAlignment(phrase("ball", 0), 0.1, 0.1, "noun", square(20, 8, 16))
    met = PhraseAlignment(phrase("box", 1), 0.9, 0.9, None, None, square(20, 26, 16))
    planned = plan(findings(phrases=[missing, met]), dilate=0.1)
    assert planned.mask[28, 4], "it grows elsewhere"
    assert not planned.mask[20:36, 26:42].any()
    bad = plan(findings(square(24, 20, 12, 0.2, 1.0), p=0.3, phrases=[met]), dilate=0.1)
    assert bad.mask[28, 33], "what is bad itself is no reason to stop"


def test_what_hangs_on_something_is_asked_for_with_it():
    house = PhraseAlignment(phrase("house", 0), 0.9, 0.9, None, None, square(8, 8, 24))
    dots = Phrase("dots", ("with", "dots"), ((0, 4), (5, 9)), 0)
    for apart, prompt in ((False, "a house with dots , "), (True, "with dots , ")):
        phrases = [house, PhraseAlignment(replace(dots, beside=apart), 0.1, 0.1, "noun", square(8, 8, 24), host=0)]
        assert plan(findings(phrases=phrases)).regions[0].prompt.startswith(prompt)


def test_a_bad_place_is_redrawn_as_what_it_shows():
    ball = PhraseAlignment(phrase("ball", 0), 0.9, 0.9, None, None, square(8, 8, 24))
    planned = plan(findings(square(10, 10, 16, 0.2, 1.0), p=0.3, phrases=[ball]))
    assert planned.regions[0].prompt == "a ball , a ball on the grass"
    literal = plan(findings(square(10, 10, 16, 0.2, 1.0), p=0.3, phrases=[ball]), reading="paper")
    assert literal.regions[0].prompt == "a ball on the grass"


def test_the_papers_strength_is_one_for_all():
    missing = PhraseAlignment(phrase("ball", 0), 0.1, 0.1, "noun", square(0, 0, 16))  # a = .5
    for p, reading, strength in ((0.3, "paper", 0.4), (1.0, "paper", 0.75), (0.3, "paper, strength=kept", 0.6)):
        planned = plan(findings(p=p, phrases=[missing]), reading=reading)
        assert planned.regions[0].strength == pytest.approx(strength)
    assert plan(findings(p=1.0, phrases=[missing])).regions[0].strength == 0.99


def test_the_paper_draws_over_met_things_and_keeps_specks():
    asked = PhraseAlignment(phrase("ball", 0), 0.2, 0.2, "noun", square(4, 4, 24))
    cat = PhraseAlignment(phrase("cat", 1), 0.9, 0.9, None, claimed=square(4, 4, 12))
    ours, papers = (plan(findings(phrases=[asked, cat]), reading=reading) for reading in ("grefine", "paper"))
    assert not ours.mask[4:16, 4:16].any()
    assert papers.mask[4:16, 4:16].all()
    speck = findings(1 - square(9, 9, 1), p=0.1)
    assert not plan(speck).regions
    assert plan(speck, reading="paper").regions


def test_small_parts_and_too_many_regions_are_dropped_and_said():
    P = np.ones((SIDE, SIDE), np.float32)
    for index in range(4):
        P[2:10, 2 + 16 * index : 2 + 16 * index + 4 + index] = 0.0
    P[60, 60] = 0.0
    planned = plan(findings(P, p=0.1), working=16, max_regions=2, context=0.0)
    assert len(planned.regions) == 2
    assert "below min_region_area" in planned.note
    assert "beyond max_regions" in planned.note
    assert [int(r.mask.sum()) for r in planned.regions] == [56, 48], "the worst first"


def test_users_masks_are_taken_whole():
    mask = np.ones((SIDE, SIDE), bool)
    planned = plan(findings(p=0.99, user=mask))
    assert planned.mask.all()
    assert planned.regions[0].kind == "user"
    assert not plan(findings(p=0.99, user=np.zeros_like(mask))).regions


def test_regions_cover_the_mask_exactly_once():
    rng = np.random.default_rng(0)
    mask = rng.random((SIDE, SIDE)) > 0.8
    planned = plan(findings(user=mask), working=24)
    covered = np.zeros((SIDE, SIDE), int)
    for region in planned.regions:
        left, top, right, bottom = region.box
        covered[top:bottom, left:right] += region.mask
        assert region.mask.shape == (bottom - top, right - left)
        assert max(right - left, bottom - top) <= LARGEST_CROP * 24
    assert np.array_equal(covered, mask.astype(int))


def test_two_far_parts_get_two_crops_and_two_near_ones_one():
    far = square(0, 0, 6) + square(58, 58, 6) > 0
    near = square(0, 0, 6) + square(0, 8, 6) > 0
    planner = Planner(RefineConfig(max_upscale=2.0, context=0.25), GATED, 32)
    assert len(planner.groups(connected_parts(far), far.shape)) == 2
    assert len(planner.groups(connected_parts(near), near.shape)) == 1


@pytest.mark.parametrize(("side", "crops"), [(24, 1), (28, 1), (36, 1), (37, 4)])
def test_a_part_little_wider_than_the_working_side_is_one_crop(side, crops):
    regions = plan(findings(user=square(4, 4, side) > 0), working=24, context=0.1).regions
    assert len(regions) == crops
    left, top, right, bottom = regions[0].box
    assert max(right - left, bottom - top) == {24: 24, 28: 31, 36: 36, 37: 22}[side]


def test_a_long_part_is_cut_where_that_is_cheaper():
    strip = np.zeros((SIDE, SIDE), bool)
    strip[4:10, 4:38] = True
    boxes = [region.box for region in plan(findings(user=strip), working=24, context=0.0).regions]
    assert len(boxes) == 2, "two crops of 24 hold fewer pixels than one of 36"


def test_crops_are_square_within_the_picture():
    assert crop_box((10, 10, 20, 14), (64, 64), 0.5, 8, 64) == (5, 2, 25, 22)
    assert crop_box((0, 0, 4, 4), (64, 64), 0.5, 16, 64) == (0, 0, 16, 16)
    assert crop_box((0, 0, 50, 10), (12, 64), 0.5, 16, 64) == (0, 0, 64, 12)


@pytest.mark.parametrize(("size", "side"), [((64, 64), 64), ((20, 20), 64), ((40, 100), 64), ((1024, 700), 1024)])
def test_working_sizes_never_shrink(size, side):
    height, width = working_size(*size, side, 16)
    assert height >= size[0]
    assert width >= size[1]
    assert height % 16 == width % 16 == 0
    assert height * width >= 0.7 * side * side


def test_large_parts_are_cut_into_pieces():
    (whole,) = connected_parts(square(0, 0, 64) > 0)
    pieces = split_large(whole, 40)
    assert len(pieces) == 4
    assert all(piece.box[2] - piece.box[0] <= 40 for piece in pieces)
    assert np.array_equal(sum(piece.draw((64, 64)).astype(int) for piece in pieces), np.ones((64, 64), int))


def test_settings_win_over_the_calibration():
    found = findings(square(5, 5, 20, 0.4, 1.0), p=0.6)
    assert automatic_mask(found, RefineConfig(), GATED)[0].any()
    assert not plan(found, gate=0.5).regions
    assert plan(found, mask_threshold=0.9).note == DIFFUSE


def test_only_places_that_no_phrase_asks_for_are_mended():
    missing = PhraseAlignment(phrase("ball", 0), 0.2, 0.2, "noun", square(4, 4, 24))
    drawn = plan(findings(phrases=[missing])).regions[0]
    looks_bad = plan(findings(P=1 - square(30, 30, 20))).regions[0]
    marked = plan(findings(user=square(30, 30, 20) > 0)).regions[0]
    assert (drawn.is_restoration, looks_bad.is_restoration, marked.is_restoration) == (False, True, True)


def test_what_is_mended_in_sight_needs_less_strength():
    bad = findings(P=1 - square(30, 30, 20))
    assert plan(bad).regions[0].strength > 0.8
    assert plan(bad, traits=SEES).regions[0].strength == 0.4
    missing = PhraseAlignment(phrase("ball", 0), 0.2, 0.2, "noun", square(4, 4, 24))
    assert plan(findings(phrases=[missing]), traits=SEES).regions[0].strength == 0.99


def test_what_is_mended_in_sight_may_be_large():
    bad = findings(P=1 - square(4, 4, 50))
    assert plan(bad).beyond_repair
    assert plan(bad, traits=SEES).regions
    missing = PhraseAlignment(phrase("ball", 0), 0.2, 0.2, "noun", square(4, 4, 50))
    assert plan(findings(phrases=[missing]), traits=SEES).beyond_repair, "this would be a new picture"


def test_what_damage_hides_is_mended_before_it_is_drawn_anew():
    missing = PhraseAlignment(phrase("ball", 0), 0.2, 0.2, "noun", square(30, 30, 20))
    under_damage = findings(P=1 - square(30, 30, 20, 0.8), phrases=[missing])
    mended = plan(under_damage, traits=SEES).regions[0]
    assert (mended.kind, mended.is_restoration, mended.strength, mended.phrases) == ("perceptual", True, 0.4, ())
    assert mended.prompt.startswith("a ball , ")
    assert "'a ball' is not seen" in mended.reason
    assert plan(under_damage).regions[0].kind == "noun", "a UNet that does not see the damage draws it anew"
    in_plain_sight = findings(P=1 - square(30, 30, 20, 0.2), phrases=[missing])
    assert plan(in_plain_sight, traits=SEES).regions[0].kind == "noun"


def met(noun, claimed):
    return PhraseAlignment(phrase(noun, 0), 0.9, 0.9, None, claimed=claimed)


def test_a_bad_place_is_named_by_the_thing_in_it_not_by_the_ground():
    ball, grass = met("ball", square(28, 28, 24)), met("grass", np.ones((SIDE, SIDE), np.float32))
    bad = 1 - square(30, 30, 20)
    assert plan(findings(P=bad, phrases=[grass, ball])).regions[0].prompt.startswith("a ball , ")
    assert plan(findings(P=bad, phrases=[grass])).regions[0].prompt == "a ball on the grass"


def test_a_persons_mark_says_where_a_missing_thing_goes_that_has_no_place_of_its_own():
    mark = square(30, 30, 20) > 0
    nowhere = PhraseAlignment(phrase("ball", 0), 0.2, 0.2, "noun", square(2, 2, 16))
    region = plan(findings(phrases=[nowhere], user=mark)).regions[0]
    assert (region.phrases, region.strength, region.is_restoration) == ((0,), 0.99, False)
    on_another = replace(nowhere, host=1)
    cat = met("cat", square(2, 2, 16))
    assert plan(findings(phrases=[on_another, cat], user=mark)).regions[0].is_restoration, "it belongs on the cat"


def test_the_room_round_a_bad_place_does_not_count_as_bad():
    bad = findings(P=1 - square(16, 16, 36))
    assert plan(bad, dilate=0.2, max_area=0.35).regions
    assert plan(bad, dilate=0.2, max_area=0.3).beyond_repair
