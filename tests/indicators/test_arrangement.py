"""How things stand to each other and how many there are: read from prompts, held against maps of true scenes."""

import pytest

from grefine.indicators.aq_map import AQMap
from grefine.indicators.defects import relations_of
from grefine.indicators.load import load_maps
from grefine.text.parse import parse
from lab.bench.cases import misaligned_cases, pictures_of

READ = [
    ("a red ball to the left of a cone", [("ball", "left", "cone")]),
    (
        "a picture of a red ball right of a cone under a blue sky",
        [("ball", "right", "cone")],
    ),
    ("a small cat with stripes above a house", [("cat", "above", "house")]),
    ("a dog sits on the grass to the right of a tree", [("dog", "right", "tree")]),
    ("a bird over a house", [("bird", "above", "house")]),
    ("a ball beneath a star", [("ball", "below", "star")]),
    ("a ball. left of a star", []),
    ("the left hand of a man", []),
    ("left of a star", []),
]


@pytest.fixture(scope="module")
def aq():
    return load_maps("tiny").aq


@pytest.mark.parametrize(("prompt", "expected"), READ)
def test_relations_are_read_from_the_text(prompt, expected):
    parsed = parse(prompt)
    found = [(parsed.phrases[a].noun, kind, parsed.phrases[b].noun) for a, kind, b in relations_of(parsed)]
    assert [one for one in found if "sky" not in one] == expected


@pytest.mark.parametrize(("kind", "number", "says"), [("relation", 514, "other way round"), ("count", 515, "Fewer")])
def test_what_stands_wrong_or_lacks_is_named_and_lowers_a(aq, kind, number, says):
    cases = misaligned_cases(kind, 16, number)
    wrong, right = aq(cases.pictures, cases.prompts), aq(pictures_of(cases.clean), cases.prompts)
    assert sum(says in found.note for found in wrong) >= 10
    assert sum(says in found.note for found in right) <= (2 if kind == "count" else 0)
    for bad, good in zip(wrong, right, strict=True):
        if says in bad.note and says not in good.note:
            assert bad.score is not None
            assert good.score is not None
            assert bad.score < good.score


def test_the_paper_has_no_such_test(aq):
    cases = misaligned_cases("relation", 4, 516)
    plain = AQMap(aq.clip, aq.text_features.tokenizer, calibration=aq.calibration, readings={"arrangement": "off"})
    assert all("other way" not in found.note for found in plain(cases.pictures, cases.prompts))


def test_numbers_are_not_judged_where_it_is_not_known_that_things_stand_apart(aq):
    cases = misaligned_cases("count", 4, 517)
    unsure = AQMap(aq.clip, aq.text_features.tokenizer, calibration=aq.calibration.to_dict() | {"counts": False})
    assert all("Fewer" not in found.note for found in unsure(cases.pictures, cases.prompts))
