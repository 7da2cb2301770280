"""What captions and queries say is true, and every word of theirs is one token."""

from __future__ import annotations

import random

import torch

from lab.world.captions import ANY, coverage, describe, draw_queries, matches
from lab.world.render import render
from lab.world.scene import sample
from lab.world.vocabulary import COLOUR_WORDS, CONTEXT, NOUN_WORDS, build_tokenizer, plural, words

SCENES = sample(200, torch.Generator().manual_seed(11))
RNG = random.Random(5)
CAPTIONS = [describe(SCENES, i, RNG) for i in range(len(SCENES))]


def test_every_phrase_means_its_own_object():
    for i, caption in enumerate(CAPTIONS):
        slots = SCENES.present[i].nonzero()[:, 0].tolist()
        assert len(caption.objects) == len(slots)
        truth = matches(SCENES[[i]], list(caption.objects))[0]
        assert all(bool(truth[slot, q]) for q, slot in enumerate(slots))


def test_places_are_named_truly():
    for i, caption in enumerate(CAPTIONS):
        for place, row in ((caption.ground, -2), (caption.sky, -1)):
            if place is not None:
                assert place.text in caption.text
                assert bool(matches(SCENES[[i]], [place])[0, row, 0])


def test_a_stated_relation_holds():
    stated = [(i, c.relation) for i, c in enumerate(CAPTIONS) if c.relation]
    assert len(stated) > 20
    for i, (first, second, relation) in stated:
        dx = float(SCENES.x[i, second] - SCENES.x[i, first])
        dy = float(SCENES.y[i, second] - SCENES.y[i, first])
        assert (dx > 0, dx < 0, dy > 0, dy < 0)[relation]


def test_captions_vary():
    texts = [describe(SCENES, 0, RNG).text for _ in range(60)]
    assert len(set(texts)) > 40


def test_every_word_is_one_token_and_every_caption_fits():
    tokenizer = build_tokenizer()
    known = set(words())
    for caption in CAPTIONS:
        pieces = caption.text.replace(",", " , ").replace(".", " . ").split()
        assert set(pieces) <= known
        ids = tokenizer(caption.text)["input_ids"]
        assert len(ids) == len(pieces) + 2 <= CONTEXT


def test_unknown_words_are_spelt_and_come_back():
    tokenizer = build_tokenizer()
    ids = tokenizer("a zebra, naïve")["input_ids"]
    assert max(ids) == tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer.decode(ids[1:-1]).replace(" ", "") == "azebra,naïve"


def test_queries_say_what_they_ask_and_miss_often():
    things = draw_queries(SCENES, 300, random.Random(1))
    for thing in things:
        if thing.colour != ANY:
            assert any(word in thing.text.split() for word in COLOUR_WORDS[thing.colour])
        if thing.noun != ANY:
            nouns = {*NOUN_WORDS[thing.noun], *(plural(noun) for noun in NOUN_WORDS[thing.noun])}
            assert nouns & set(thing.text.split())
    objects = [thing for thing in things if thing.ground == ANY and thing.sky == ANY]
    met = matches(SCENES, objects)[:, :3].any(1).any(0).float().mean()
    assert 0.3 < float(met) <= 1
    share = matches(SCENES, objects).any(1).float().mean()
    assert 0.001 < float(share) < 0.3, "most phrases are not met by most scenes"


def test_coverage_adds_up():
    cells = coverage(render(SCENES[:10]), 8)
    assert cells.shape == (10, 5, 8, 8)
    assert torch.allclose(cells.sum(1), torch.ones(10, 8, 8), atol=1e-5)
