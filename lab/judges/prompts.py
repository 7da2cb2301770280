"""How true a caption is of a scene, for any caption and any scene, and of which of its words."""

import random
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lab.world import vocabulary
from lab.world.captions import ANY, Caption, Thing, describe, look_of, spell
from lab.world.scene import Scenes

_CHOICES = {"noun": len(vocabulary.NOUNS), "colour": len(vocabulary.COLOURS), "texture": len(vocabulary.TEXTURES)}
_OFTEN = {"noun": 1.0, "colour": 1.0, "texture": 2.0}
"""How often each is made wrong: a pattern is the hardest to see."""
_WEIGHT = {"noun": 1.5, "colour": 1.2, "texture": 1.0, "size": 0.4}
"""How much of an object is wrong when one of its words is: another thing is worse than another colour."""


@dataclass(frozen=True)
class Told:
    """A caption and its truth about one scene."""

    text: str
    alignment: float
    """1 when every phrase is met."""
    phrases: tuple[tuple[int, int, float], ...]
    """(start, end, truth 0..1) of each phrase in the text."""


def tell(scenes: Scenes, index: int, caption: Caption) -> Told:
    """Judge a caption of any scene against scene `index`; relations and counts are not judged."""
    things = [*dict.fromkeys(caption.objects), *(t for t in (caption.ground, caption.sky) if t)]
    truths = [truth(scenes, index, thing) for thing in things]
    phrases = []
    for thing, value in zip(things, truths, strict=True):
        if (start := caption.text.find(thing.text)) >= 0:
            phrases.append((start, start + len(thing.text), value))
    # A scene with one wrong thing is not nearly right: the worst phrase counts more than all together.
    alignment = 0.7 * min(truths) + 0.3 * sum(truths) / len(truths)
    return Told(caption.text, alignment, tuple(phrases))


def truth(scenes: Scenes, index: int, thing: Thing) -> float:
    """Return how much of what a phrase asks for is met by the object, ground or sky that meets it best."""
    if thing.ground != ANY:
        return float(thing.ground == int(scenes.ground[index]))
    if thing.sky != ANY:
        return float(thing.sky == int(scenes.sky[index]))
    asked = {name: getattr(thing, name) for name in _WEIGHT if getattr(thing, name) != ANY}
    best = 0.0
    for slot in range(scenes.present.shape[1]):
        if scenes.present[index, slot]:
            look = look_of(scenes, index, slot)
            met = sum(_WEIGHT[name] for name, value in asked.items() if getattr(look, name) == value)
            # Squared: a thing with one wrong word is not nearly the thing that was asked for.
            best = max(best, (met / sum(_WEIGHT[name] for name in asked)) ** 2)
    return best


def falsify(caption: Caption, rng: random.Random) -> Caption:
    """Change one word of one object's phrase, keeping the rest of the caption."""
    thing = rng.choice([t for t in caption.objects if t.text in caption.text] or list(caption.objects))
    names = [name for name in _CHOICES if getattr(thing, name) != ANY]
    name = rng.choices(names, [_OFTEN[name] for name in names])[0]
    value = (getattr(thing, name) + 1 + rng.randrange(_CHOICES[name] - 1)) % _CHOICES[name]
    count = next((n for n, word in enumerate(vocabulary.COUNT_WORDS) if n > 1 and thing.text.startswith(word)), 1)
    wrong = spell(replace(thing, **{name: value}), rng, count)
    objects = tuple(wrong if t == thing else t for t in caption.objects)
    return replace(caption, text=caption.text.replace(thing.text, wrong.text, 1), objects=objects)


def captions_for(scenes: Scenes, rng: random.Random, wrong: int = 1) -> list[list[Told]]:
    """Return for every scene its own caption, so many with a wrong word, and that of the next scene."""
    own = [describe(scenes, index, rng) for index in range(len(scenes))]
    others = [*own[1:], *own[:1]]
    return [
        [tell(scenes, i, caption) for caption in (one, *(falsify(one, rng) for _ in range(wrong)), other)]
        for i, (one, other) in enumerate(zip(own, others, strict=True))
    ]


def encode(tokenizer: Any, told: list[Told], length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ids and mask `(N, length)`, truth of the phrase each token belongs to, and whether it has one."""
    found = tokenizer(
        [t.text for t in told],
        padding="max_length",
        truncation=True,
        max_length=length,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    start, end = found["offset_mapping"].unbind(-1)
    value, known = torch.zeros(start.shape), torch.zeros(start.shape, dtype=torch.bool)
    for row, item in enumerate(told):
        for low, high, share in item.phrases:
            inside = (start[row] >= low) & (end[row] <= high) & (end[row] > start[row])
            value[row, inside], known[row, inside] = share, True
    return found["input_ids"], found["attention_mask"], value, known
