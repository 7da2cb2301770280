"""What people would write under a scene or ask of it, in many words and forms, and what each phrase truly means."""

import random
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lab.world import vocabulary as words
from lab.world.render import Rendered
from lab.world.scene import BIG, SMALL, Scenes

ANY = -1


@dataclass(frozen=True)
class Thing:
    """What a phrase asks for; `ANY` where it does not say."""

    text: str
    noun: int = ANY
    colour: int = ANY
    texture: int = ANY
    size: int = ANY
    """0 small, 1 big."""
    ground: int = ANY
    sky: int = ANY


@dataclass(frozen=True)
class Caption:
    """A caption and the phrases that it is made of."""

    text: str
    objects: tuple[Thing, ...]
    """One per object slot of the scene, in slot order; what the caption says of it."""
    ground: Thing | None = None
    sky: Thing | None = None
    relation: tuple[int, int, int] | None = None
    """(slot, slot, index into RELATION_PHRASES) if the caption relates two objects."""
    order: tuple[int, ...] = field(default=())
    """Object slots in the order in which the caption names them."""

    def thing(self, slot: int) -> Thing:
        """Return what the caption says of an object slot; alike objects are told together."""
        return self.objects[min(slot, len(self.objects) - 1)]


def describe(scenes: Scenes, index: int, rng: random.Random) -> Caption:
    """Write one caption for scene `index`."""
    slots = [k for k in range(scenes.present.shape[1]) if scenes.present[index, k]]
    kinds = torch.stack([scenes.noun[index], scenes.colour[index], scenes.texture[index]], -1)[slots]
    if len(slots) > 1 and bool((kinds == kinds[:1]).all()):
        thing = _thing(scenes, index, slots[0], rng, count=len(slots))
        names, objects, relation = [thing.text], (thing,) * len(slots), None
    else:
        things = {slot: _thing(scenes, index, slot, rng) for slot in slots}
        objects = tuple(things.values())
        relation = _relation(scenes, index, slots, rng)
        rng.shuffle(slots)
        if relation:
            slots = [relation[0], relation[1], *[s for s in slots if s not in relation[:2]]]
        names = [things[slot].text for slot in slots]
    ground_index, sky_index = int(scenes.ground[index]), int(scenes.sky[index])
    grounds, skies = words.GROUND_PHRASES[ground_index], words.SKY_PHRASES[sky_index]
    ground = Thing(rng.choice(grounds), ground=ground_index) if rng.random() < 0.75 else None
    sky = Thing(rng.choice(skies), sky=sky_index) if rng.random() < 0.6 else None
    text = _compose(names, ground, sky, relation, rng)
    return Caption(text, objects, ground, sky, relation, tuple(slots))


def look_of(scenes: Scenes, index: int, slot: int) -> Thing:
    """Return all that can be said of one object, as a phrase without words."""
    radius, told = float(scenes.radius[index, slot]), (scenes.noun, scenes.colour, scenes.texture)
    return Thing("", *(int(t[index, slot]) for t in told), 0 if radius < SMALL else 1 if radius > BIG else ANY)


def _thing(scenes: Scenes, index: int, slot: int, rng: random.Random, count: int = 1) -> Thing:
    """Name one object, leaving out what people leave out."""
    thing = look_of(scenes, index, slot)
    if thing.size != ANY and (count > 1 or rng.random() < 0.6):
        thing = replace(thing, size=ANY)
    if rng.random() > (0.85 if thing.texture else 0.25):
        thing = replace(thing, texture=ANY)
    return spell(thing, rng, count)


def spell(thing: Thing, rng: random.Random, count: int = 1, article: bool = True) -> Thing:
    """Return `thing` with a text that says exactly what it asks for."""
    noun = rng.choice(words.NOUN_WORDS[thing.noun]) if thing.noun != ANY else ""
    before, after = [], ""
    if thing.size != ANY:
        before.append(rng.choice((("small", "little"), ("big", "large"))[thing.size]))
    attributes = []
    if thing.texture != ANY:
        as_noun = words.TEXTURE_NOUNS[thing.texture]
        if as_noun and noun and rng.random() < 0.25:
            after = f" with {as_noun}"
        else:
            attributes.append(rng.choice(words.TEXTURE_ADJECTIVES[thing.texture]))
    if thing.colour != ANY:
        attributes.append(rng.choice(words.COLOUR_WORDS[thing.colour]))
    if rng.random() < 0.3:
        attributes.reverse()
    before += attributes
    if count > 1:
        before.insert(0, words.COUNT_WORDS[count])
        noun = words.plural(noun)
    elif article:
        before.insert(0, "a" if rng.random() < 0.9 else "one")
    text = " ".join([*before, noun]).strip() + after
    return replace(thing, text=text.replace("a orange", "an orange"))


def _relation(scenes: Scenes, index: int, slots: list[int], rng: random.Random) -> tuple[int, int, int] | None:
    """Pick two different objects that clearly stand beside or above each other."""
    if len(slots) < 2 or rng.random() < 0.5:
        return None
    first, second = rng.sample(slots, 2)
    dx = float(scenes.x[index, second] - scenes.x[index, first])
    dy = float(scenes.y[index, second] - scenes.y[index, first])
    if max(abs(dx), abs(dy)) < 0.25 or abs(abs(dx) - abs(dy)) < 0.1:
        return None
    return first, second, int(dx <= 0) if abs(dx) > abs(dy) else 2 + int(dy <= 0)


def _compose(
    names: list[str],
    ground: Thing | None,
    sky: Thing | None,
    relation: tuple[int, int, int] | None,
    rng: random.Random,
) -> str:
    places = [t.text for t in (ground, sky) if t]
    opening = rng.choice(words.OPENINGS)
    form = rng.random()
    if relation:
        link = rng.choice(words.RELATION_PHRASES[relation[2]])
        pair = f"{names[0]} {link} {names[1]}"
        listed = f"{pair} and {names[2]}" if len(names) > 2 else pair
        return " ".join([opening + listed, *places])
    if form < 0.18 and places:
        return ", ".join([*names, *places]) if rng.random() < 0.5 else ", ".join([*places, *names])
    if form < 0.30 and ground:
        rest = f" next to {_listed(names[1:])}" if len(names) > 1 else ""
        verb = rng.choice(words.VERBS)
        return f"{opening}{names[0]} {verb} {ground.text}{rest}" + (f" {sky.text}" if sky else "")
    if form < 0.42 and places and len(names) > 1:
        return f"{names[0]} {places[0]}. there is {_listed(names[1:])}" + "".join(f" {p}" for p in places[1:])
    if form < 0.5 and places:
        return f"{' '.join(places)}, {_listed(names)}"
    if form < 0.58 and len(names) > 1:
        return " ".join([f"{opening}{names[0]} with {_listed(names[1:])}", *places])
    return " ".join([opening + _listed(names), *places])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def matches(scenes: Scenes, things: list[Thing]) -> Tensor:
    """Return (B, K + 2, Q) bool: which objects, then the ground and the sky, each thing means in each scene."""

    def column(name: str) -> Tensor:
        return torch.tensor([getattr(thing, name) for thing in things])

    size = torch.where(scenes.radius < SMALL, 0, torch.where(scenes.radius > BIG, 1, 2))
    place = (column("ground") != ANY) | (column("sky") != ANY)
    objects = scenes.present[..., None] & ~place
    for name, values in {
        "noun": scenes.noun,
        "colour": scenes.colour,
        "texture": scenes.texture,
        "size": size,
    }.items():
        asked = column(name)
        objects = objects & ((asked == ANY) | (values[..., None] == asked))
    ground = (scenes.ground[:, None] == column("ground"))[:, None]
    sky = (scenes.sky[:, None] == column("sky"))[:, None]
    return torch.cat([objects, ground, sky], 1)


def near_misses(scenes: Scenes, things: list[Thing]) -> Tensor:
    """Return (B, K + 2, Q) bool: what each thing would mean if one of its attributes did not count."""
    found = torch.zeros(len(scenes), scenes.present.shape[1] + 2, len(things), dtype=torch.bool)
    for name in ("noun", "colour", "texture"):
        several = torch.tensor(
            [(t.noun != ANY) + (t.colour != ANY) + (t.texture != ANY) > 1 and getattr(t, name) != ANY for t in things]
        )
        found |= matches(scenes, [replace(thing, **{name: ANY}) for thing in things]) & several
    return found


def coverage(rendered: Rendered, grid: int) -> Tensor:
    """Return (B, K + 2, grid, grid) float: the share of each cell that objects, ground and sky cover."""
    layers = torch.cat([rendered.objects, rendered.ground[:, None], rendered.sky[:, None]], 1).float()
    return torch.nn.functional.adaptive_avg_pool2d(layers, grid)


LEADS = ("of", "of", "with", "there is", "next to", *(text for group in words.RELATION_PHRASES for text in group))
"""What a parser leaves before a phrase that it takes out of a caption; it asks for nothing by itself."""


def draw_queries(scenes: Scenes, count: int, rng: random.Random) -> list[Thing]:
    """Return `count` phrases: of objects (whole, in part, the noun alone), of hard negatives, and of places."""
    return [_place(rng) if rng.random() < 0.16 else _object(scenes, rng) for _ in range(count)]


def _place(rng: random.Random) -> Thing:
    """Ask for a ground or a sky, as a phrase or by its bare words."""
    if rng.random() < 0.5:
        index = rng.randrange(len(words.GROUND_PHRASES))
        thing = Thing(rng.choice(words.GROUND_PHRASES[index]), ground=index)
        if rng.random() < 0.15:
            return replace(thing, text=f"{rng.choice(words.VERBS)} {thing.text}")
    else:
        index = rng.randrange(len(words.SKY_PHRASES))
        thing = Thing(rng.choice(words.SKY_PHRASES[index]), sky=index)
    last = thing.text.split()[-1]  # which alone may still say which place is meant
    return replace(thing, text=last) if rng.random() < 0.5 and last not in ("sky", "day", "evening") else thing


def _object(scenes: Scenes, rng: random.Random) -> Thing:
    while True:
        index, slot = rng.randrange(len(scenes)), rng.randrange(scenes.present.shape[1])
        if scenes.present[index, slot]:
            break
    look = look_of(scenes, index, slot)
    noun, colour, texture = look.noun, look.colour, look.texture
    if rng.random() < 0.05 and texture:
        return Thing(rng.choice(["with ", ""]) + str(words.TEXTURE_NOUNS[texture]), texture=texture)
    if rng.random() < 0.45:
        noun, colour, texture = _one_wrong(noun, colour, texture, rng)
    if rng.random() < 0.2:
        return spell(Thing("", noun), rng, article=rng.random() < 0.4)
    thing = Thing(
        "",
        noun,
        colour if rng.random() < 0.85 else ANY,
        texture if rng.random() < (0.75 if texture else 0.25) else ANY,
        look.size if rng.random() < 0.25 else ANY,
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
        return (noun + rng.randrange(1, len(words.NOUNS))) % len(words.NOUNS), colour, texture
    if which < 0.6:
        return noun, (colour + rng.randrange(1, len(words.COLOURS))) % len(words.COLOURS), texture
    return noun, colour, (texture + rng.randrange(1, len(words.TEXTURES))) % len(words.TEXTURES)
