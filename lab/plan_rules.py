"""`python -m lab plans`: plans made from true maps in two worlds; are place, words and strength right?"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from grefine.indicators.aq_map import AQMap
from grefine.indicators.calibration import Calibration
from grefine.indicators.grids import GridMap
from grefine.indicators.readings import Readings
from grefine.refine import plan as plans
from grefine.refine.settings import RefineConfig, Strengths
from grefine.text.parse import parse
from grefine.types import ParsedPrompt, Phrase, QualityMap, RepairPlan
from lab import world2
from lab.bench import intervals
from lab.bench.cases import CHANGED, damaged_cases, wrong_scenes
from lab.bench.report import Row
from lab.world import vocabulary as words
from lab.world.captions import Caption, look_of
from lab.world.defects import damage
from lab.world.render import render
from lab.world.scene import Scenes
from lab.world.stream import BENCHMARK, source

CELLS = 32
"""Cells along a side of a true map."""
HALF = Calibration(p_gate=0.5, mask_threshold=0.5)
"""Thresholds of maps that know the truth: half everywhere."""
KINDS = (*CHANGED, "damage")
BAD = 0.75
"""How bad the true quality map calls a damaged place."""


@dataclass(frozen=True)
class Layer:
    """Something that a picture shows: its pixels, and every word that is true of it."""

    words: frozenset[str]
    mask: np.ndarray
    is_thing: bool = True


@dataclass(frozen=True)
class Case:
    """A picture as its layers, what was asked, and what is wrong with it."""

    kind: str
    caption: str
    asked: str
    """What the caption says of the wrong thing; empty where a place is damaged."""
    layers: tuple[Layer, ...]
    place: np.ndarray
    """What is wrong: the damage, or the pixels of the asked thing and of what is drawn instead."""
    told: tuple[str, ...]
    """What the caption says of its things and, behind them, of their surroundings."""
    things: int
    """How many of these are things."""

    def prompt(self) -> ParsedPrompt:
        """Return the caption with its true phrases, whatever a parser would make of it."""
        phrases, first, at = [], 0, 0
        for number, text in enumerate(self.told):
            at = self.caption.find(text, at if number < self.things else 0)
            main, _, pattern = text.partition(" with ")
            *before, noun = main.split()
            own, host = [w for w in before if w not in ("a", "an", "one")], len(phrases)
            spans = _spans(main, at)
            apart = 0 < number < self.things or main.startswith(("under", "in front", "before"))
            hangs = first if number else host
            phrases.append(Phrase(noun, tuple(main.split()), spans, hangs, beside=apart, attributes=tuple(own)))
            if pattern:
                text_at = at + len(main) + 1
                phrases.append(Phrase(pattern, ("with", pattern), _spans(f"with {pattern}", text_at), host))
            at += len(text)
        return ParsedPrompt(self.caption, (), tuple(phrases))


@dataclass(frozen=True)
class World:
    """Cases, and what their words mean."""

    known: Mapping[str, str]
    cases: list[Case]

    def read(self, text: str) -> frozenset[str]:
        """Return what a text asks for, as the words of layers."""
        return frozenset(self.known[word] for word in text.lower().replace(",", " ").split() if word in self.known)


class TrueMaps(AQMap):
    """AQ-Map with its own rules, but with the truth about one picture in CLIP's place."""

    def __init__(self, world: World, case: Case) -> None:
        self.world, self.case = world, case
        self.calibration, self.readings, self.asker = HALF, Readings(), None

    def aligned_map(self, encoding: Any, index: int, text: str) -> GridMap:
        """Return the share of each cell that shows what a text asks for."""
        asked = self.world.read(text)
        seen = np.zeros_like(self.case.place)
        for layer in self.case.layers:
            if asked and asked <= layer.words:
                seen = seen | layer.mask
        return _grid(seen)

    def _phrase_scores(self, whole: Any, phrases: Any) -> tuple[list[float], list[float]]:
        def score(text: str) -> float:
            return float(not self.world.read(text) or self.aligned_map(None, 0, text).patches[0][1].max() > 0)

        return [score(phrase.text) for phrase in phrases], [score(phrase.noun) for phrase in phrases]

    def _prompt_score(self, whole: Any, text: str) -> float:
        return 1.0

    def _note(self, prompt: ParsedPrompt, misplaced: Any) -> str:
        return ""

    def plan(self, parsed: bool = False) -> RepairPlan:
        """Return the plan that the pipeline's rules make of the true maps, with the true or the parser's phrases."""
        prompt, side = parse(self.case.caption) if parsed else self.case.prompt(), len(self.case.place)
        alignment = self._judge(SimpleNamespace(whole=[None], sizes=[(side, side)]), 0, prompt, None)  # pyright: ignore
        bad = self.case.kind == "damage"
        quality = 1.0 - BAD * bad * _grid(self.case.place).draw()
        found = plans.Findings(QualityMap(quality, 0.2 if bad else 0.9), alignment, prompt)
        return plans.Planner(RefineConfig(), HALF, side).plan(found)


def _spans(text: str, at: int) -> tuple[tuple[int, int], ...]:
    return tuple((at + m.start(), at + m.end()) for m in re.finditer(r"\S+", text))


def _grid(mask: np.ndarray) -> GridMap:
    side = len(mask)
    cells = mask.reshape(CELLS, side // CELLS, CELLS, side // CELLS).mean((1, 3), dtype=np.float32)
    return GridMap((((0, 0, side, side), cells),), (side, side))


def judge(world: World, case: Case, plan: RepairPlan) -> dict[str, bool]:
    """Say what of a case's plan is right: place, words and strength."""
    said = [world.read(region.prompt.removesuffix(plan.prompt)) for region in plan.regions]
    if case.kind == "damage":
        shown = [layer for layer in case.layers if (layer.mask & case.place).sum() > 0.5 * case.place.sum()]
        right_words = all(not told or any(told <= layer.words for layer in shown) for told in said)
    else:
        right_words = all(told == world.read(case.asked) for told in said)
    if case.kind == "missing":  # no other thing may be painted over
        touched = [
            (plan.mask & layer.mask).sum() / max(layer.mask.sum(), 1) for layer in case.layers if layer.is_thing
        ]
        place = 0.25 <= plan.mask.sum() / case.place.sum() <= 4 and all(share <= 0.1 for share in touched)
    else:
        place = (plan.mask & case.place).sum() >= 0.5 * (plan.mask | case.place).sum()
    noun = "noun", Strengths().noun
    expected = {"damage": ("perceptual", BAD), "missing": noun, "object": noun}
    right = [expected.get(case.kind, ("attribute", Strengths().attribute))]
    if case.kind == "texture" and " with " in case.asked:  # its dots are a thing of their own, missing on the ball
        right.append(noun)
    right_strength = all(any(r.kind == k and abs(r.strength - s) <= 0.1 for k, s in right) for r in plan.regions)
    some = bool(plan.regions)
    return {"place": place, "words": some and right_words, "strength": some and right_strength}


def first_world(count: int) -> World:
    """Return `count` cases of the toy world, as many of each kind."""
    named = (*words.NOUN_WORDS, *words.COLOUR_WORDS, *words.TEXTURE_ADJECTIVES)
    places = [text for rows in (words.GROUND_PHRASES, words.SKY_PHRASES) for row in rows for text in row]
    known = {
        **{w: w for text in places for w in text.split()[1:] if w not in ("the", "a")},
        **{w: group[0] for group in named for w in group},
        **{words.plural(w): group[0] for group in words.NOUN_WORDS for w in group},
        **{noun: row[0] for noun, row in zip(words.TEXTURE_NOUNS, words.TEXTURE_ADJECTIVES, strict=True) if noun},
        **{"small": "small", "little": "small", "big": "big", "large": "big"},
    }
    world = World(known, [])
    each = count // len(KINDS)
    for number, kind in enumerate(CHANGED):
        scenes, shown, captions, slots = wrong_scenes(kind, each, 700 + number)
        asked, drawn = render(scenes).objects, render(shown)
        for i, (caption, slot) in enumerate(zip(captions, slots.tolist(), strict=True)):
            place = asked[i, slot] | drawn.objects[i, slot]
            layers = _layers(world, shown[[i]], drawn.objects[i], drawn.ground[i])
            if kind == "object" and int(scenes.colour[i, slot]) != int(shown.colour[i, slot]):
                continue  # drawn in another colour as well: nothing says that it stands for the asked one
            world.cases.append(
                Case(kind, caption.text, caption.thing(slot).text, layers, place.numpy(), *_told(caption))
            )
    spoilt = damaged_cases(each, 710)
    ground = render(spoilt.scenes).ground
    for i, text in enumerate(spoilt.prompts):
        layers = _layers(world, spoilt.scenes[[i]], spoilt.objects[i], ground[i])
        world.cases.append(Case("damage", text, "", layers, spoilt.masks[i].numpy(), *_told(spoilt.captions[i])))
    return world


def _told(caption: Caption) -> tuple[tuple[str, ...], int]:
    """Return the phrases of a toy caption, in its order, and how many of them are things."""
    things = list(dict.fromkeys(caption.objects[slot].text for slot in caption.order))
    return (*things, *(place.text for place in (caption.ground, caption.sky) if place)), len(things)


def _layers(world: World, scene: Scenes, objects: torch.Tensor, ground: torch.Tensor) -> tuple[Layer, ...]:
    found = []
    for slot in scene.present[0].nonzero()[:, 0].tolist():
        look = look_of(scene, 0, slot)
        size = {0: ["small"], 1: ["big"]}.get(look.size, [])
        told = {words.NOUNS[look.noun], words.COLOURS[look.colour], words.TEXTURES[look.texture], *size}
        found.append(Layer(frozenset(told), objects[slot].numpy()))
    floor, sky = (
        world.read(" ".join(phrases[int(at[0])]))
        for phrases, at in ((words.GROUND_PHRASES, scene.ground), (words.SKY_PHRASES, scene.sky))
    )
    rest = ~(ground | objects.any(0))
    return (*found, Layer(floor, ground.numpy(), False), Layer(sky, rest.numpy(), False))


def second_world(count: int) -> World:
    """Return `count` cases of the second world, as many of each kind."""
    rng, world, each = random.Random(25), World(world2.KNOWN, []), count // len(KINDS)
    world.cases.extend(_second_case(world, kind, number, rng) for kind in KINDS for number in range(each))
    return world


def _second_case(world: World, kind: str, number: int, rng: random.Random) -> Case:
    while True:
        scene = world2.sample(rng)
        at = rng.randrange(len(scene.items))
        names = [world2.name(item, rng) for item in scene.items]
        shown = scene if kind == "damage" else world2.changed(scene, at, kind, rng)
        things, floor = world2.masks(shown)
        layers = [
            Layer(world.read(f"{i.colour} {i.shape} {i.pattern} {'big' if i.radius > 0.125 else ''}"), mask)
            for i, mask in zip(shown.items, things, strict=True)
        ]
        if kind == "damage" or not any(world.read(names[at]) <= layer.words for layer in layers):
            break
    rest = ~(floor | np.logical_or.reduce([floor, *things]))
    for place, mask in ((scene.floor, floor), (scene.wall, rest)):
        layers.append(Layer(frozenset({place, world2.TINTS.get(place, place)}), mask, False))
    caption, told = world2.caption(scene, names, rng)
    if kind != "damage":
        where = world2.masks(scene)[0][at] | (kind != "missing" and things[at])
        return Case(kind, caption, names[at], tuple(layers), where, told, len(names))
    pixels = torch.from_numpy(np.array(world2.draw(scene))).permute(2, 0, 1)[None].float() / 255
    owned = torch.from_numpy(np.logical_or.reduce(things))[None]
    spoilt = damage(pixels, owned, source(BENCHMARK, 720 + number))
    return Case(kind, caption, "", tuple(layers), spoilt.masks[0].numpy(), told, len(names))


def plan_rows(world: World, parsed: bool = False) -> dict[str, Row]:
    """Return the share of right plans: in all, by what is right, and by kind."""
    found = [judge(world, case, TrueMaps(world, case).plan(parsed)) for case in world.cases]
    right = [all(one.values()) for one in found]
    rows = {"right": intervals.share(right)}
    rows |= {part: intervals.share([one[part] for one in found]) for part in ("place", "words", "strength")}
    for kind in KINDS:
        rows[kind] = intervals.share([ok for ok, case in zip(right, world.cases, strict=True) if case.kind == kind])
    return rows


def table(count: int) -> str:
    """Return the rows of both worlds as a table in Markdown."""
    worlds = (first_world(count), second_world(count))
    lines = [("plans that are right", "first world", "second world", "n"), ("---",) * 4]

    def add(name: str, found: list[Row]) -> None:
        shown = [f"{row.value:.3f} ({row.low:.3f} .. {row.high:.3f})" for row in found]
        lines.append((name, *shown, " / ".join(str(row.n) for row in found)))

    true = [plan_rows(world) for world in worlds]
    for key in true[0]:
        add(key, [rows[key] for rows in true])
    add("right, with the parser's phrases", [plan_rows(world, parsed=True)["right"] for world in worlds])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
