"""Phrases to ask of a batch of scenes: what is there, and what nearly is."""

import random
from dataclasses import replace

from lab.world.captions import ANY, Thing, spell
from lab.world.scene import BIG, SMALL, Scenes
from lab.world.vocabulary import (
    COLOURS,
    GROUND_PHRASES,
    NOUNS,
    RELATION_PHRASES,
    SKY_PHRASES,
    TEXTURE_NOUNS,
    TEXTURES,
    VERBS,
)

LEADS = ("of", "of", "with", "there is", "next to", *(words for group in RELATION_PHRASES for words in group))
"""What a parser leaves before a phrase that it takes out of a caption; it asks for nothing by itself."""


def draw_queries(scenes: Scenes, count: int, rng: random.Random) -> list[Thing]:
    """Return `count` phrases: of objects (whole, in part, the noun alone), of hard negatives, and of places."""
    return [_place(rng) if rng.random() < 0.16 else _object(scenes, rng) for _ in range(count)]


def _place(rng: random.Random) -> Thing:
    """Ask for a ground or a sky, as a phrase or by its bare words."""
    if rng.random() < 0.5:
        index = rng.randrange(len(GROUND_PHRASES))
        thing = Thing(rng.choice(GROUND_PHRASES[index]), ground=index)
        if rng.random() < 0.15:
            return replace(thing, text=f"{rng.choice(VERBS)} {thing.text}")
    else:
        index = rng.randrange(len(SKY_PHRASES))
        thing = Thing(rng.choice(SKY_PHRASES[index]), sky=index)
    last = thing.text.split()[-1]  # which alone may still say which place is meant
    return replace(thing, text=last) if rng.random() < 0.5 and last not in ("sky", "day", "evening") else thing


def _object(scenes: Scenes, rng: random.Random) -> Thing:
    while True:
        index, slot = rng.randrange(len(scenes)), rng.randrange(scenes.present.shape[1])
        if scenes.present[index, slot]:
            break
    noun, colour, texture = (int(t[index, slot]) for t in (scenes.noun, scenes.colour, scenes.texture))
    radius = float(scenes.radius[index, slot])
    size = 0 if radius < SMALL else 1 if radius > BIG else ANY
    if rng.random() < 0.05 and texture:
        return Thing(rng.choice(["with ", ""]) + str(TEXTURE_NOUNS[texture]), texture=texture)
    if rng.random() < 0.45:
        noun, colour, texture = _one_wrong(noun, colour, texture, rng)
    if rng.random() < 0.2:
        return spell(Thing("", noun), rng, article=rng.random() < 0.4)
    thing = Thing(
        "",
        noun,
        colour if rng.random() < 0.85 else ANY,
        texture if rng.random() < (0.75 if texture else 0.25) else ANY,
        size if rng.random() < 0.25 else ANY,
    )
    plural = 2 if rng.random() < 0.06 else 1
    return led(spell(thing, rng, count=plural, article=rng.random() < 0.85), rng)


def led(thing: Thing, rng: random.Random, share: float = 0.4) -> Thing:
    """Put before a `share` of phrases what a parser leaves there."""
    return replace(thing, text=f"{rng.choice(LEADS)} {thing.text}") if rng.random() < share else thing


def _one_wrong(noun: int, colour: int, texture: int, rng: random.Random) -> tuple[int, int, int]:
    """Change one attribute: the phrase that a tired judge would let pass."""
    which = rng.random()
    if which < 0.4:
        return (noun + rng.randrange(1, len(NOUNS))) % len(NOUNS), colour, texture
    if which < 0.6:
        return noun, (colour + rng.randrange(1, len(COLOURS))) % len(COLOURS), texture
    return noun, colour, (texture + rng.randrange(1, len(TEXTURES))) % len(TEXTURES)
