"""A second world that nothing was trained or tuned on: polygons of other shapes, colours, patterns and places."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from lab import table

SIDE, FINE = 96, 4
"""Pixels along a side, and how much finer the polygons are drawn."""
Points = list[tuple[float, float]]


def _circle(radius: float = 1.0, x: float = 0.0, start: float = 0.0, end: float = 360.0) -> Points:
    turns = [math.radians(start + (end - start) * k / 40) for k in range(41)]
    return [(x + radius * math.cos(t), radius * math.sin(t)) for t in turns]


SHAPES: dict[str, Points] = {
    "triangle": [(0, -1), (1, 0.8), (-1, 0.8)],
    "ring": _circle() + _circle(0.45)[::-1],
    "cross": [(-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35), (0.35, 1), (-0.35, 1),
              (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)],
    "moon": _circle(1.0, 0, 60, 300) + _circle(0.87, 0.5, 275, 85),
    "arrow": [(-1, -0.35), (0.1, -0.35), (0.1, -0.9), (1, 0), (0.1, 0.9), (0.1, 0.35), (-1, 0.35)],
    "fish": [(1, 0), (0.4, -0.6), (-0.3, -0.5), (-0.6, -0.1), (-1, -0.6), (-1, 0.6), (-0.6, 0.1), (-0.3, 0.5),
             (0.4, 0.6)],
    "bell": [(-0.2, -1), (0.2, -1), (0.55, 0.3), (0.95, 0.8), (-0.95, 0.8), (-0.55, 0.3)],
}  # fmt: skip
_TABLE = table("world2.yaml")
COLOURS, PATTERNS, FLOORS, WALLS = (_TABLE[name] for name in ("colours", "patterns", "floors", "walls"))
ALSO, TINTS = _TABLE["second names"], _TABLE["tints"]
KNOWN: dict[str, str] = {
    **{word: word for names in (SHAPES, COLOURS, PATTERNS, FLOORS, WALLS) for word in names},
    **{name: word for word, name in PATTERNS.items() if name},
    **{name: word for word, name in ALSO.items()},
    **{"wooden": "wood", "bricks": "brick", "small": "small", "tiny": "small", "big": "big", "huge": "big"},
}
"""Every word that means something to look at, and what it means."""


@dataclass(frozen=True)
class Item:
    """One thing of a scene; places and sizes are shares of the side."""

    shape: str
    colour: str
    pattern: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """What stands where."""

    items: tuple[Item, ...]
    floor: str
    wall: str
    horizon: float


def sample(rng: random.Random) -> Scene:
    """Draw one scene: one to four things in different ninths of it."""
    items = []
    for cell in rng.sample(range(9), rng.choice([1, 2, 2, 3, 3, 4])):
        x, y = (0.19 + 0.31 * at + rng.uniform(-0.03, 0.03) for at in (cell % 3, cell // 3))
        radius = rng.uniform(0.09, 0.14)
        pattern = rng.choice(list(PATTERNS)) if radius > 0.1 else "plain"
        items.append(Item(rng.choice(list(SHAPES)), rng.choice(list(COLOURS)), pattern, x, y, radius))
    return Scene(tuple(items), rng.choice(list(FLOORS)), rng.choice(list(WALLS)), rng.uniform(0.35, 0.65))


def changed(scene: Scene, at: int, kind: str, rng: random.Random) -> Scene:
    """Return what is drawn in place of thing `at`: another colour, pattern or shape, or nothing."""
    items = list(scene.items)
    item = items.pop(at)
    if kind != "missing":
        fields = {"colour": ("colour", COLOURS), "texture": ("pattern", PATTERNS), "object": ("shape", SHAPES)}
        field, words = fields[kind]
        other = rng.choice([word for word in words if word != getattr(item, field)])
        items.insert(at, replace(item, **{field: other}))
    return replace(scene, items=tuple(items))


def name(item: Item, rng: random.Random) -> str:
    """Return what somebody calls a thing, leaving out what people leave out."""

    def called(word: str) -> str:
        return ALSO[word] if word in ALSO and rng.random() < 0.3 else word

    before = [called(item.colour)] if rng.random() < 0.9 else []
    after = ""
    if item.pattern != "plain" and rng.random() < 0.85:
        if rng.random() < 0.3:
            after = f" with {PATTERNS[item.pattern]}"
        else:
            before.insert(rng.choice([0, len(before)]), item.pattern)
    if item.radius > 0.125 and rng.random() < 0.3:
        before.insert(0, rng.choice(["big", "huge"]))
    text = " ".join([*before, called(item.shape)])
    return ("an " if text[0] in "aeiou" else "a ") + text + after


def caption(scene: Scene, names: Sequence[str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """Write a sentence about a scene whose things have these names; return it and what it says, in its order."""
    floor, wall = (rng.choice(places[key]["said"]) for places, key in ((FLOORS, scene.floor), (WALLS, scene.wall)))
    places = rng.choice([[floor], [floor, wall], [wall], []])
    order = list(range(len(names)))
    rng.shuffle(order)
    listed = [names[k] for k in order]
    told = (*listed, *places)
    if len(listed) > 1 and rng.random() < 0.5:
        first, second = (scene.items[k] for k in order[:2])
        dx, dy = second.x - first.x, second.y - first.y
        word = ("left of" if dx > 0 else "right of") if abs(dx) > abs(dy) else ("above" if dy > 0 else "below")
        listed[:2] = [f"{listed[0]} {rng.choice([word, 'beside', 'next to'])} {listed[1]}"]
    last = ", " if rng.random() < 0.3 else " and "
    text = last.join([*filter(None, [", ".join(listed[:-1])]), listed[-1]])
    if places and rng.random() < 0.3:
        return f"{' '.join(places)}, {text}", told
    return " ".join([rng.choice(["", "a sketch of ", "a poster showing "]) + text, *places]), told


def masks(scene: Scene) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the visible pixels of every thing, later ones over earlier ones, and those of the floor."""
    owner = Image.new("L", (SIDE * FINE, SIDE * FINE), 0)
    pen = ImageDraw.Draw(owner)
    pen.rectangle((0, scene.horizon * SIDE * FINE, SIDE * FINE, SIDE * FINE), fill=1)
    for number, item in enumerate(scene.items):
        pen.polygon(_outline(item), fill=number + 2)
    found = np.asarray(owner)[FINE // 2 :: FINE, FINE // 2 :: FINE]
    return [found == number + 2 for number in range(len(scene.items))], found == 1


def draw(scene: Scene) -> Image.Image:
    large = SIDE * FINE
    picture = Image.new("RGB", (large, large), WALLS[scene.wall]["colour"])
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, scene.horizon * large, large, large), fill=FLOORS[scene.floor]["colour"])
    for item in scene.items:
        pen.polygon(_outline(item), fill=COLOURS[item.colour])
        if item.pattern != "plain":
            inside = Image.new("L", (large, large), 0)
            ImageDraw.Draw(inside).polygon(_outline(item), fill=255)
            lines = Image.new("RGB", (large, large), COLOURS[item.colour])
            for at in range(-large, 2 * large, 5 * FINE):
                ImageDraw.Draw(lines).line(_line(item.pattern, at, large), fill="#f4f0e6", width=2 * FINE)
            picture.paste(lines, mask=inside)
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def _outline(item: Item) -> Points:
    scale = SIDE * FINE
    return [((item.x + item.radius * u) * scale, (item.y + item.radius * v) * scale) for u, v in SHAPES[item.shape]]


def _line(pattern: str, at: int, large: int) -> Points:
    steps = range(0, large + 1, FINE)
    if pattern == "hatched":
        return [(at, 0), (at + large, large)]
    if pattern == "wavy":
        return [(x, at + 6 * math.sin(x / (2 * FINE))) for x in steps]
    return [(x, at + 3 * FINE * (x // (3 * FINE) % 2)) for x in steps]
