"""Prompts made of tags, states of things, and lettering."""

from pathlib import Path

import pytest
from test_parse_prompts import Scrambled, seen, whole

from benchmarks.parser_scores import _match, prompt_scores, read_prompts
from grefine.text.parse import parse, parse_prompt

TAGS = Path(__file__).parent.parent / "golden" / "prompts_tags.jsonl"


def test_annotated_tag_prompts():
    records = read_prompts(TAGS)
    assert len(records) >= 60
    scores = prompt_scores(records, parse)
    assert scores["noun_f1"] >= 0.99, scores
    assert scores["words"] >= 0.98, scores
    assert scores["ancestors"] >= 0.98, scores


def test_what_cannot_be_drawn_is_marked():
    """All annotated wishes are marked, and of the things only media, lighting and lettering."""
    wishes, things = [], []
    for record in read_prompts(TAGS):
        parsed = parse(record["prompt"])
        for k, j in _match(record, parsed)[0].items():
            phrase = parsed.phrases[j]
            if record["phrases"][k]["optional"]:
                wishes.append(phrase.drawable)
            elif '"' not in record["prompt"]:
                things.append(phrase.drawable)
    assert not any(wishes)
    assert things.count(False) <= 3


@pytest.mark.parametrize(
    ("prompt", "main"),
    [
        ("score_9, score_8_up, score_7_up, rating_safe, 1boy, red hair", "1boy"),
        ("(masterpiece:1.2), (score_9:1.1), solo, a dragon", "dragon"),
        ("anime coloring, looking at viewer, 1girl", "1girl"),
        ("score_9, rating_safe", "score 9"),
    ],
)
def test_no_tag_of_wishes_is_the_main_noun(prompt, main):
    phrases = parse_prompt(prompt)
    assert {phrases[p.ancestor].noun for p in phrases} <= {main}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a woman with her eyes closed", [("a woman", None), ("with her eyes closed", "woman")]),
        ("a man with his arms crossed", [("a man", None), ("with his arms crossed", "man")]),
        ("a shop with an open door", [("a shop", None), ("with an open door", "shop")]),
        (
            'a man holding a sign that says "Open, 24/7"',
            [("a man", None), ("holding a sign", "man"), ("that says Open 24/7", "sign")],
        ),
        ("a neon sign that says Open 24/7", [("a neon sign", None), ("that says Open 24/7", "sign")]),
        ('"a cat on a mat"', [("a cat", None), ("on a mat", "cat")]),
    ],
)
def test_states_and_lettering(prompt, expected):
    assert seen(prompt) == expected


def test_lettering_is_one_name_and_never_a_defect():
    man, sign, text = parse_prompt('a man with a sign that says "a red house, 24/7"')
    assert (man.noun, sign.noun, sign.drawable) == ("man", "sign", True)
    assert text.noun.startswith("a red house")
    assert text.noun.endswith("24/7")
    assert not text.drawable


def test_own_tags(tmp_path):
    (tmp_path / "own.txt").write_text("[tag]\nhouse rule *\n")
    assert [p.drawable for p in parse_prompt("house rule 7, a fox", marks=tmp_path / "own.txt")] == [False, True]
    assert parse_prompt("house rule 7, a fox")[0].drawable


@pytest.mark.parametrize(
    "prompt",
    [
        'sign "',
        'sign ""',
        'sign says "',
        'says "a" says "b" sign',
        "sign 'a' 'b",
        '"x" sign "y, z. w" on it, solo',
        "solo,",
    ],
)
def test_any_quotes_parse(prompt):
    whole(parse(prompt))
    for seed in range(50):
        whole(parse(prompt, Scrambled(seed)))
        whole(parse(f"score_9, {prompt}, looking at viewer, her eyes closed", Scrambled(seed)))
