"""Did it help? Score every candidate, and give the original back unless it was beaten."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
from PIL import Image

from grefine.refine.composite import rounded
from grefine.refine.seeds import pixel_digest
from grefine.refine.settings import RefineConfig
from grefine.scorers.protocol import Scorer
from grefine.types import Decision, Kept, Scores

AT_ONCE = 4
"""Whole pictures that are held and judged together when regions are judged one by one."""

Values = dict[str, float]
Axis = Literal["perceptual", "alignment"]
Own = Callable[[Sequence[Image.Image], str], list[Values]]
"""The pipeline's own p and a of images under one prompt."""


@dataclass
class Panel:
    """All who judge a candidate: scorers that did not make the mask, and the maps' own p and a where none covers."""

    own: Own
    scorers: Sequence[Scorer] = ()
    directions: dict[str, float] = field(default_factory=dict)
    """Per value +1 (higher is better) or -1."""
    widths: dict[str, float] = field(default_factory=dict)
    """Per value the range of its metric, where that is finite."""
    axes: dict[str, Axis] = field(default_factory=dict)
    """Per value what it is about."""
    known: dict[tuple[bytes, str], Values] = field(default_factory=dict)
    """What was scored before in this call."""

    def score(self, images: Sequence[np.ndarray], prompt: str) -> list[Values]:
        """Return p, a (with a prompt to judge) and every scorer's values, one record per image."""
        final = [rounded(image) for image in images]
        keys = [(pixel_digest(image), prompt) for image in final]
        new = {key: image for key, image in zip(keys, final, strict=True) if key not in self.known}
        if new:
            self.known.update(zip(new, self._score(list(new.values()), prompt), strict=True))
        return [self.known[key] for key in keys]

    def _score(self, images: Sequence[np.ndarray], prompt: str) -> list[Values]:
        pictures = [Image.fromarray(image) for image in images]
        records = self.own(pictures, prompt)
        self.directions |= dict.fromkeys(("p", "a"), 1.0)
        self.widths |= dict.fromkeys(("p", "a"), 1.0)
        self.axes |= {"p": "perceptual", "a": "alignment"}
        for scorer in self.active(prompt):
            for record, scores in zip(records, scorer(pictures, [prompt] * len(pictures)), strict=True):
                record.update(scores.values)
                for name in scores.values:
                    low, high = scorer.spec.range
                    self.directions[name] = -1.0 if scorer.spec.direction == "lower" else 1.0
                    self.widths[name] = high - low if math.isfinite(high - low) else math.nan
                    aligned = scorer.spec.axis == "alignment" or name.endswith(".alignment")
                    self.axes[name] = "alignment" if aligned else "perceptual"
        return records

    def width(self, name: str, original: Values) -> float:
        """Return the range of a score, or how large it is where its range has no end."""
        width = self.widths[name]
        return width if math.isfinite(width) else max(abs(original[name]), 1.0)

    def active(self, prompt: str) -> list[Scorer]:
        """Return the scorers that can judge under this prompt."""
        return [s for s in self.scorers if (prompt.strip() or not s.spec.needs_prompt) and not s.spec.used_in_loop]

    def deciding(self, record: Mapping[str, float], prompt: str) -> tuple[list[str], bool]:
        """Return which values decide, and whether independent scorers cover every axis.

        An axis without a scorer of its own falls back on the map's score, which made the mask and so proves little.
        """
        axes = {s.spec.axis for s in self.active(prompt)}
        names = [name for name in record if name not in ("p", "a")]
        perceptual, alignment = bool(axes & {"perceptual", "both"}), bool(axes & {"alignment", "both"})
        if not perceptual:
            names.append("p")
        if not alignment and "a" in record:
            names.append("a")
        return names, perceptual and (alignment or "a" not in record)


@dataclass(frozen=True)
class Verdict:
    """How one candidate compares with the original."""

    better: tuple[str, ...]
    worse: tuple[str, ...]
    merit: float
    """Mean gain in units of the scorers' own noise."""
    outweighed: tuple[str, ...] = ()
    """What fell, but was paid for by a gain on the other axis (`guard_trade`)."""

    @property
    def accepted(self) -> bool:
        """It gains somewhere and loses nowhere."""
        return bool(self.better) and not self.worse


def disturbed(image: np.ndarray) -> list[np.ndarray]:
    """Return the picture moved by one pixel, and as JPEG 95: changes that nobody would call a change."""
    moved = image.copy()
    moved[1:, 1:] = image[:-1, :-1]
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=95)
    out.seek(0)
    return [moved, np.asarray(Image.open(out).convert("RGB"))]


def measure_noise(original: Values, variants: Sequence[Values]) -> Values:
    """Return how far each score moves when nothing happened."""
    return {name: max(abs(v[name] - value) for v in variants) for name, value in original.items()}


def bands(panel: Panel, original: Values, variants: Sequence[Values], config: RefineConfig) -> Values:
    """Return per score what counts as equal: its own noise, and at least a small share of its range.

    A score that hardly moves under noise would otherwise have a veto over changes that nobody can see.
    """
    noise = measure_noise(original, variants)
    return {
        name: max(config.guard_tolerance * value, (config.guard_resolution or 0.0) * panel.width(name, original))
        for name, value in noise.items()
    }


def compare(
    panel: Panel, original: Values, candidate: Values, noise: Values, names: Sequence[str], trade: float = 0.0
) -> Verdict:
    """Compare a candidate with the original on the deciding values.

    Args:
        panel: the judges.
        original: values of the original.
        candidate: values of the candidate.
        noise: per value the band that counts as equal.
        names: of the deciding values.
        trade: how much of the largest gain on one axis may be lost on the other, in shares of the scores' ranges.
    """
    better, lost, gains = [], [], []
    gained: dict[Axis, float] = {"perceptual": 0.0, "alignment": 0.0}
    for name in names:
        gain, width = panel.directions[name] * (candidate[name] - original[name]), panel.width(name, original)
        band = noise[name] + 1e-6
        if gain > band:
            better.append(name)
            gained[panel.axes[name]] = max(gained[panel.axes[name]], gain / width)
        elif gain < -band:
            lost.append((name, -gain / width))
        gains.append(gain / (band + 0.005 * width))
    other: dict[Axis, Axis] = {"perceptual": "alignment", "alignment": "perceptual"}
    outweighed = tuple(name for name, loss in lost if loss < trade * gained[other[panel.axes[name]]])
    worse = tuple(name for name, _ in lost if name not in outweighed)
    return Verdict(tuple(better), worse, float(np.mean(gains)) if gains else 0.0, outweighed)


def reject_regions(
    panel: Panel, original: np.ndarray, singles: Iterable[np.ndarray], prompt: str, config: RefineConfig
) -> tuple[list[int], list[str]]:
    """Judge each region's repaint by itself and return those that lower nothing, with a sentence per rejected one.

    Args:
        panel: the judges.
        original: the picture.
        singles: the picture with one region repainted each; a generator is drawn from a few at a time.
        prompt: what was asked for.
        config: the settings.
    """
    first, *moved = panel.score([original, *disturbed(original)], prompt)
    noise = bands(panel, first, moved, config)
    names, _ = panel.deciding(first, prompt)
    accepted, notes = [], []
    waiting = iter(singles)
    records: list[Values] = []
    while few := [rounded(single) for single in islice(waiting, AT_ONCE)]:
        records += panel.score(few, prompt)
    for index, record in enumerate(records):
        verdict = compare(panel, first, record, noise, names, config.guard_trade or 0.0)
        if verdict.worse:
            fallen = _moves(panel, first, record, noise, verdict.worse)
            notes.append(f"Region {index + 1} was left as it was: {fallen}.")
        else:
            accepted.append(index)
    return accepted, notes


def decide(
    panel: Panel, candidates: Mapping[str, np.ndarray], prompt: str, config: RefineConfig
) -> tuple[Decision, Scores, Scores]:
    """Choose among the candidates (the original first) and say why.

    Returns:
        The decision, and the scores before and after.
    """
    order = list(candidates)
    original = candidates["original"]
    records = panel.score([*candidates.values(), *disturbed(original)], prompt)
    scored = dict(zip(order, records, strict=False))
    noise = bands(panel, records[0], records[len(order) :], config)
    names, guarded = panel.deciding(records[0], prompt)
    verdicts = {n: compare(panel, records[0], scored[n], noise, names, config.guard_trade or 0.0) for n in order[1:]}
    accepted = [name for name in order[1:] if verdicts[name].accepted]
    kept = max(accepted, key=lambda name: (verdicts[name].merit, -order.index(name)), default="original")
    if kept == "original":
        reason = " ".join(_why_not(panel, name, scored, noise, verdicts[name]) for name in order[1:])
        reason = reason or "There was nothing to compare with."
    else:
        verdict = verdicts[kept]
        rose = _moves(panel, records[0], scored[kept], noise, verdict.better)
        fell = _moves(panel, records[0], scored[kept], noise, verdict.outweighed)
        reason = f"Kept what was {kept}: {rose}, "
        reason += f"which outweighs that {fell}." if fell else "and nothing fell beyond its noise."
    if not guarded:
        reason += " No independent scorer covers every axis, so the maps' own scores helped to decide."
    decision = Decision(_kept(kept), reason, guarded, scored, noise)
    return decision, Scores(records[0]), Scores(scored[kept])


def _why_not(panel: Panel, name: str, scored: Mapping[str, Values], noise: Values, verdict: Verdict) -> str:
    if verdict.worse:
        return f"Not {name}: {_moves(panel, scored['original'], scored[name], noise, verdict.worse)}."
    return f"Not {name}: no score gained more than its own noise."


def _moves(panel: Panel, before: Values, after: Values, noise: Values, names: Sequence[str]) -> str:
    """Say how the most moved scores moved."""
    ranked = sorted(names, key=lambda n: -abs(after[n] - before[n]) / (noise[n] + 1e-6))[:3]
    return ", ".join(
        f"{name} {'rose' if after[name] > before[name] else 'fell'} by {abs(after[name] - before[name]):.3g} "
        f"(noise {noise[name]:.2g})"
        for name in ranked
    )


def _kept(name: str) -> Kept:
    found: dict[str, Kept] = {
        "original": "original",
        "repainted": "repainted",
        "both": "both",
        "restored": "restored",
    }
    return found[name]
