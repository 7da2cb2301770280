"""The second backend: NLTK's tags, our chunk and attachment rules."""

import pytest

from grefine.errors import WeightsMissing
from grefine.text.backend import checked
from grefine.text.nltk_backend import DATA, ChunkTree, NltkBackend
from grefine.text.parse import parse


class Tagger:
    """Penn tags as NLTK gives them for the words below, so that the rules can be seen alone."""

    known = (
        "a/DT the/DT two/CD girl/NN woman/NN hair/NN wind/NN dress/NN dog/NN cat/NN old/JJ long/JJ red/JJ with/IN"
        " in/IN of/IN on/IN and/CC wearing/VBG blowing/VBG painting/NN oil/NN burning/VBG house/NN horses/NNS"
        " knight/NN 's/POS black/JJ white/JJ rides/VBZ horse/NN ,/, very/RB"
    )

    def __init__(self):
        self.tags = dict(pair.rsplit("/", 1) for pair in self.known.split(" "))

    def tag(self, words):
        return [(w, self.tags[w]) for w in words]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a girl with long hair blowing in the wind", [("girl", None), ("hair", "girl"), ("wind", "hair")]),
        ("a woman wearing a red dress", [("woman", None), ("dress", "woman")]),
        ("oil painting of a cat and a dog", [("oil painting", None), ("cat", "oil painting"), ("dog", "cat")]),
        ("a burning house , two horses", [("house", None), ("horses", "house")]),
        ("the knight 's horse", [("knight", "horse"), ("horse", None)]),
        ("a black and white cat on the house", [("cat", None), ("house", "cat")]),
        ("a knight rides a very old horse in the wind", [("knight", None), ("horse", "knight"), ("wind", "knight")]),
    ],
)
def test_rules(prompt, expected):
    phrases = parse(prompt, NltkBackend(Tagger())).phrases
    assert [(p.noun, phrases[p.ancestor].noun if p.ancestor != j else None) for j, p in enumerate(phrases)] == expected


def test_rules_always_give_a_forest():
    import random

    r = random.Random(3)
    tags = ["NN", "NNS", "JJ", "DT", "IN", "VBG", "VBZ", "VBN", "CC", ",", "POS", "RB", "CD", "TO", "PRP$", "UH"]
    for _ in range(500):
        n = r.randrange(1, 15)
        words = [r.choice(["cat", ",", "of", "and", "red", "is", "-"]) for _ in range(n)]
        found = ChunkTree(words, [r.choice(tags) for _ in range(n)]).analyse()
        checked(found, n, "rules")


def test_missing_data_are_asked_for_by_name():
    pytest.importorskip("nltk")
    import nltk

    try:
        nltk.data.find(f"taggers/{DATA}/")
    except LookupError:
        with pytest.raises(WeightsMissing, match=f"python -m nltk.downloader {DATA}"):
            parse("a cat", "nltk")
    else:
        assert [p.noun for p in parse("a cat on the grass", "nltk").phrases] == ["cat", "grass"]
