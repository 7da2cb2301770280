"""Scenes as data: what stands where, in which colour and texture, on which ground and under which sky."""

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from lab.world.vocabulary import COLOURS, GROUND_PHRASES, HELD_OUT_PAIRS, NOUNS, SKY_PHRASES, TEXTURES

MAX_OBJECTS = 3
SMALL, BIG = 0.15, 0.215
"""Radii below and above which an object is called small or big."""
MIN_TEXTURED = 0.145
"""Smaller objects are plain: their pattern would fall below what a 4x autoencoder can carry."""

Misalignment = Literal["colour", "texture", "object", "missing", "relation", "count"]
MISALIGNMENTS: tuple[Misalignment, ...] = ("colour", "texture", "object", "missing", "relation", "count")
Combinations = Literal["seen", "held_out"]


@dataclass(frozen=True)
class Scenes:
    """A batch of B scenes with up to K = 3 objects each; all tensors on the CPU."""

    present: Tensor
    """(B, K) bool."""
    noun: Tensor
    """(B, K) long, into NOUNS."""
    colour: Tensor
    texture: Tensor
    x: Tensor
    """(B, K) float, centre in 0..1."""
    y: Tensor
    radius: Tensor
    """(B, K) float, share of the image side."""
    ground: Tensor
    """(B,) long."""
    sky: Tensor
    horizon: Tensor
    """(B,) float, height of the horizon in 0..1 from the top."""
    look: Tensor
    """(B,) long: seed of clouds, hills and grain, so that a changed scene keeps its background."""

    def __len__(self) -> int:
        return len(self.ground)

    def __getitem__(self, index: Tensor | slice | list[int]) -> "Scenes":
        return Scenes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def cat(parts: "list[Scenes]") -> "Scenes":
        return Scenes(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Scenes)})


def sample(count: int, generator: torch.Generator, combinations: Combinations = "seen") -> Scenes:
    """Draw `count` scenes; "held_out" gives the first object a (noun, colour) pair that training never shows."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def integer(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    number = 1 + torch.bucketize(rand(count), torch.tensor([0.35, 0.80]))
    slots = torch.arange(MAX_OBJECTS)
    present = slots[None] < number[:, None]
    noun, colour = integer(len(NOUNS), count, MAX_OBJECTS), integer(len(COLOURS), count, MAX_OBJECTS)
    colour = _avoid_held_out(noun, colour)
    # One scene in eight repeats its first object, for counts ("two red balls").
    same = (rand(count) < 0.125) & (number > 1)
    noun = torch.where(same[:, None], noun[:, :1], noun)
    colour = torch.where(same[:, None], colour[:, :1], colour)
    if combinations == "held_out":
        pairs = torch.tensor(sorted(HELD_OUT_PAIRS))
        chosen = pairs[integer(len(pairs), count)]
        repeated = same[:, None] | (slots[None] == 0)
        noun = torch.where(repeated, chosen[:, :1], noun)
        colour = torch.where(repeated, chosen[:, 1:], colour)
    x, y, radius = _layout(number, rand)
    texture = torch.where(rand(count, MAX_OBJECTS) < 0.4, 0, 1 + integer(len(TEXTURES) - 1, count, MAX_OBJECTS))
    texture = torch.where(same[:, None], texture[:, :1], texture)
    texture = torch.where((radius < MIN_TEXTURED) | (same[:, None] & (number[:, None] == 3)), 0, texture)
    ground, sky = integer(len(GROUND_PHRASES), count), integer(len(SKY_PHRASES), count)
    horizon, look = 0.42 + 0.2 * rand(count), integer(2**31 - 1, count)
    return Scenes(present, noun, colour, texture, x, y, radius, ground, sky, horizon, look)


def _avoid_held_out(noun: Tensor, colour: Tensor) -> Tensor:
    """Move every held-out (noun, colour) pair to the next colour."""
    held = torch.zeros(len(NOUNS), len(COLOURS), dtype=torch.bool)
    held[tuple(torch.tensor(sorted(HELD_OUT_PAIRS)).T)] = True
    return torch.where(held[noun, colour], (colour + 1) % len(COLOURS), colour)


def _layout(number: Tensor, rand) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN001 - the caller's random source
    """Place objects without overlap: one anywhere, two side by side or stacked, three in a triangle."""
    count = len(number)
    jitter = (rand(count, MAX_OBJECTS, 2) - 0.5) * 2
    share = rand(count, MAX_OBJECTS)
    two = torch.tensor(
        [
            [[0.28, 0.56], [0.73, 0.58], [0, 0]],
            [[0.5, 0.27], [0.5, 0.74], [0, 0]],
            [[0.30, 0.34], [0.70, 0.70], [0, 0]],
        ]
    )
    three = torch.tensor(
        [[[0.24, 0.68], [0.76, 0.70], [0.50, 0.25]], [[0.20, 0.50], [0.52, 0.72], [0.80, 0.42]],
         [[0.26, 0.27], [0.74, 0.30], [0.50, 0.74]]]
    )  # fmt: skip
    flip = rand(count) < 0.5
    pick = (rand(count) * 3).long()
    centre = torch.where((number == 2)[:, None, None], two[pick], three[pick])
    centre = torch.where((number == 1)[:, None, None], torch.tensor([0.5, 0.54]), centre)
    centre = torch.stack([torch.where(flip[:, None], 1 - centre[..., 0], centre[..., 0]), centre[..., 1]], -1)
    reach = torch.tensor([[0.22, 0.18], [0.05, 0.08], [0.03, 0.04]])[number - 1]
    centre = centre + jitter * reach[:, None]
    low, high = torch.tensor([0.17, 0.145, 0.125])[number - 1], torch.tensor([0.27, 0.215, 0.175])[number - 1]
    radius = low[:, None] + (high - low)[:, None] * share
    limit = radius + 0.02
    order = torch.argsort(rand(count, MAX_OBJECTS).masked_fill(torch.arange(3)[None] >= number[:, None], 9), dim=1)
    x = torch.minimum(torch.maximum(centre[..., 0], limit), 1 - limit).gather(1, order)
    y = torch.minimum(torch.maximum(centre[..., 1], limit), 1 - limit).gather(1, order)
    return x, y, radius.gather(1, order)


def misalign(scenes: Scenes, kind: Misalignment, generator: torch.Generator) -> tuple[Scenes, Tensor, Tensor]:
    """Change what is drawn so that the scenes' captions no longer fit."""
    count = len(scenes)
    weight = scenes.present.float() * (scenes.radius >= MIN_TEXTURED if kind == "texture" else 1.0)
    possible = weight.sum(1) > 0
    index = torch.multinomial(weight + (~possible[:, None]).float(), 1, generator=generator)[:, 0]
    rows = torch.arange(count)

    def moved(values: Tensor, size: int) -> Tensor:
        values = values.clone()
        step = 1 + torch.randint(size - 1, (count,), generator=generator)
        values[rows, index] = (values[rows, index] + step) % size
        return values

    if kind == "colour":
        colour = _avoid_held_out(scenes.noun, moved(scenes.colour, len(COLOURS)))
        possible &= colour[rows, index] != scenes.colour[rows, index]
        return replace(scenes, colour=colour), index, possible
    if kind == "texture":
        return replace(scenes, texture=moved(scenes.texture, len(TEXTURES))), index, possible
    if kind == "object":
        noun = moved(scenes.noun, len(NOUNS))
        colour = torch.where(noun != scenes.noun, _avoid_held_out(noun, scenes.colour), scenes.colour)
        return replace(scenes, noun=noun, colour=colour), index, possible
    if kind == "missing":
        present = scenes.present.clone()
        present[rows, index] = False
        return replace(scenes, present=present), index, possible
    if kind == "relation":
        order, pair = [1, 0, 2], torch.stack([scenes.noun, scenes.colour], -1)
        swapped = replace(scenes, x=scenes.x[:, order], y=scenes.y[:, order], radius=scenes.radius[:, order])
        fits = (scenes.texture[:, :2] == 0).all(1) | (scenes.radius[:, :2] >= MIN_TEXTURED).all(1)
        differ = scenes.present[:, 1] & (pair[:, 0] != pair[:, 1]).any(-1) & fits
        return swapped, torch.zeros(count, dtype=torch.long), differ
    # A count can be wrong where more than one object stands, all alike: the caption counts them.
    key = torch.stack([scenes.noun, scenes.colour, scenes.texture], -1)
    alike = ((key == key[:, :1]).all(-1) | ~scenes.present).all(1) & scenes.present[:, 1]
    present = scenes.present.clone()
    last = present.sum(1) - 1
    present[rows, last] = False
    return replace(scenes, present=present), last, alike
