"""Did it help? Score every candidate, and give the original back unless it was beaten."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import cast

import numpy as np
from PIL import Image

from grefine.refine.composite import rounded
from grefine.refine.inputs import pixel_digest
from grefine.refine.regions import crop_box
from grefine.refine.settings import RefineConfig, resolve
from grefine.scorers.noise import CEILING, SMALL, disturbed, measure_noise, metric_width
from grefine.scorers.protocol import AnyJudge, Scorer, as_scorer
from grefine.types import Axis, Box, Decision, Kept, MapSpec, MetricSpec, Scores

AT_ONCE = 4
"""Whole pictures that are held and judged together when regions are judged one by one."""
NEAR = 224
"""Least side in pixels of the surroundings in which a region is judged: what most judges' networks take in."""

Values = dict[str, float]
TOGETHER = 4 * 1024**2
"""Pixels of whole pictures that are held and judged together, of several inputs."""
Own = Callable[[Sequence[Image.Image], Sequence[str]], list[Values]]
"""The pipeline's own p and a of images, each under its prompt."""
Asked = Sequence[Scorer | None]
"""Who is asked; None stands for the maps' own p and a."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A picture, as it would be saved, that is judged under a prompt."""

    pixels: np.ndarray
    digest: bytes
    prompt: str

    @classmethod
    def of(cls, image: np.ndarray, prompt: str) -> _Shown:
        final = rounded(image)
        return cls(final, pixel_digest(final), prompt)


@dataclass
class Panel:
    """All who judge a candidate: scorers that did not make the mask, and the maps' own p and a where none covers."""

    own: Own
    scorers: Sequence[Scorer] = ()
    specs: dict[str, MetricSpec] = field(default_factory=dict)
    """Per value the metric that it belongs to."""
    axes: dict[str, Axis] = field(default_factory=dict)
    """Per value what it is about."""
    known: dict[tuple[int, bytes, str], Values] = field(default_factory=dict)
    """What each judge said before in this call."""
    noises: dict[tuple[object, ...], Values] = field(default_factory=dict)
    """How far each moved before in this call where nothing visible happened."""
    barred: str = ""
    """Who drew the mask and therefore does not judge, as a sentence."""
    choosing: Callable[[str], Collection[str]] = lambda prompt: ()
    """Who chose among repaints under a prompt and therefore does not decide."""

    def without(self, drawers: Sequence[MapSpec]) -> Panel:
        """Return a panel on which nobody sits who drew a map from outside, by name or with the same network."""
        if not drawers:
            return self
        names = {name for spec in drawers for name in (spec.name, *spec.judges)}
        gone = [scorer.spec.name for scorer in self.scorers if scorer.spec.name in names]
        drew = f"The map came from {', '.join(spec.name for spec in drawers)}, which does not judge it"
        left = [scorer for scorer in self.scorers if scorer.spec.name not in names]
        return replace(self, scorers=left, barred=f"{drew}; left out: {', '.join(gone)}." if gone else f"{drew}.")

    def score(self, images: Sequence[np.ndarray], prompt: str, by: Asked | None = None) -> list[Values]:
        """Return one record of values per picture, of all who judge or of those asked; nobody is asked twice."""
        shown = [_Shown.of(image, prompt) for image in images]
        for scorer in [None, *self.active(prompt)] if by is None else by:
            self._look(scorer, shown)
        return [self._said(one, by) for one in shown]

    def look_ahead(self, asked: Iterable[tuple[Sequence[np.ndarray], str]]) -> None:
        """Ask about the candidates of several inputs, the original first, and its noise: together is faster."""
        shown: list[_Shown] = []
        probed: list[list[_Shown]] = []
        for candidates, prompt in asked:
            pictures = [_Shown.of(image, prompt) for image in candidates]
            if (pictures[0].digest, prompt, None) not in self.noises:
                variants = [_Shown.of(image, prompt) for image in disturbed(pictures[0].pixels)]
                probed.append([pictures[0], *variants])
                pictures += variants
            shown += pictures
            if sum(one.pixels.size // 3 for one in shown) >= TOGETHER:
                self._look_all(shown, probed)
                shown, probed = [], []
        self._look_all(shown, probed)

    def _look_all(self, shown: Sequence[_Shown], probed: Sequence[Sequence[_Shown]]) -> None:
        for scorer in (None, *self.scorers):
            self._look(scorer, [one for one in shown if scorer is None or scorer in self.active(one.prompt)])
        for pictures in probed:
            first, *variants = map(self._said, pictures)
            self.noises[pictures[0].digest, pictures[0].prompt, None] = measure_noise(first, variants)

    def _said(self, one: _Shown, by: Asked | None = None) -> Values:
        """Return what was said of a picture."""
        asked = [None, *self.active(one.prompt)] if by is None else by
        return {name: v for who in asked for name, v in self.known[id(who), one.digest, one.prompt].items()}

    def _look(self, scorer: Scorer | None, shown: Iterable[_Shown]) -> None:
        """Ask one scorer, or None for the maps, about the pictures that it has not seen."""
        keys = {(id(scorer), one.digest, one.prompt): one for one in shown}
        new = {key: one for key, one in keys.items() if key not in self.known}
        if not new:
            return
        pictures, prompts = zip(*((Image.fromarray(one.pixels), one.prompt) for one in new.values()), strict=True)
        if scorer is None:
            self.specs |= {name: MetricSpec(name) for name in ("p", "a")}
            self.axes |= {"p": "perceptual", "a": "alignment"}
            said = self.own(list(pictures), list(prompts))
        else:
            said = [dict(scores.values) for scores in scorer(list(pictures), list(prompts))]
            for name in {name for values in said for name in values}:
                self.specs[name] = scorer.spec
                self.axes[name] = scorer.spec.axis_of(name)
        self.known.update(zip(new, said, strict=True))

    def noise(self, original: np.ndarray, prompt: str, by: Asked | None = None) -> Values:
        """Return how far each score of a picture moves when nothing visible happened to it."""
        final = rounded(original)
        key = (pixel_digest(final), prompt, None if by is None else tuple(map(id, by)))
        if key not in self.noises:
            first, *variants = self.score([final, *disturbed(final)], prompt, by)
            self.noises[key] = measure_noise(first, variants)
        return self.noises[key]

    def bands(self, original: np.ndarray, prompt: str, config: RefineConfig, by: Asked | None = None) -> Bands:
        """Return per score what counts as equal: its noise, and a small share of its range, so none has a veto."""
        noise = self.noise(original, prompt, by)
        (record,) = self.score([original], prompt, by)
        ranges = {name: self.width(name, record) for name in noise}
        widths = {name: max(value, (config.guard_resolution or 0.0) * ranges[name]) for name, value in noise.items()}
        unfit = {n: v for n, v in noise.items() if n not in ("p", "a") and v > CEILING * ranges[n]}
        return Bands(widths, unfit)

    def gain(self, name: str, original: Values, candidate: Values) -> float:
        """Return by how much a score became better."""
        change = candidate[name] - original[name]
        return -change if self.specs[name].direction == "lower" else change

    def width(self, name: str, original: Values) -> float:
        """Return the range of a score, or how large it is where its range has no end."""
        return metric_width(self.specs[name], original[name])

    def active(self, prompt: str) -> list[Scorer]:
        """Return the scorers that can judge under this prompt, and decide."""
        gone = set(self.choosing(prompt))
        gone |= {s.spec.name for s in self.scorers if s.spec.used_in_loop or s.spec.axis == "none"}
        return [s for s in self.scorers if s.spec.name not in gone and (prompt.strip() or not s.spec.needs_prompt)]

    def deciding(self, record: Mapping[str, float], unfit: Collection[str] = ()) -> tuple[list[str], bool]:
        """Return which values decide (the maps' where no scorer covers an axis), and whether scorers cover both."""
        names = [name for name in record if name not in ("p", "a") and name not in unfit]
        covered = {axis for name in names for axis in self.covers(name, record)}
        names += [name for name in ("p", "a") if name in record and self.axes[name] not in covered]
        return names, "perceptual" in covered and ("alignment" in covered or "a" not in record)

    def covers(self, name: str, record: Mapping[str, float]) -> set[Axis]:
        """Return the axes that a value speaks for: its own, or both where its judge has no value for the other."""
        spec = self.specs[name]
        own: set[Axis] = {self.axes[name]}
        alone = {self.axes[other] for other in record if self.specs[other] is spec} == own
        return {"perceptual", "alignment"} if spec.axis == "both" and alone else own


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


@dataclass(frozen=True)
class Bands:
    """What counts as equal on one picture, and which judges cannot be believed there."""

    width: Values
    """Per score: changes of at most this size are none."""
    unfit: Values
    """Scores that invisible changes move by more than `CEILING` of their range, with that noise."""


def compare(
    panel: Panel, original: Values, candidate: Values, noise: Values, names: Sequence[str], trade: float = 0.0
) -> Verdict:
    """Compare a candidate with the original: `noise` is equal; `trade` of an axis's gain may be lost on the other."""
    better, lost, gains = [], [], []
    gained: dict[Axis, float] = {"perceptual": 0.0, "alignment": 0.0}
    for name in names:
        gain, width = panel.gain(name, original, candidate), panel.width(name, original)
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
    panel: Panel,
    original: np.ndarray,
    singles: Iterable[np.ndarray],
    boxes: Sequence[Box],
    prompt: str,
    config: RefineConfig,
) -> tuple[list[int], list[str]]:
    """Judge each region's repaint by itself: return those that lower nothing, with a sentence per rejected one.

    Judges that can (`MetricSpec.parts`) see a region in its surroundings, whose noise is measured once, in the widest.
    """
    whole = panel.bands(original, prompt, config)
    (first,) = panel.score([original], prompt)
    names, _ = panel.deciding(first, whole.unfit)
    asked = [scorer for scorer in panel.active(prompt) if any(panel.specs[name] is scorer.spec for name in names)]
    near = [scorer for scorer in asked if scorer.spec.parts]
    far = [None] * ("p" in names or "a" in names) + [scorer for scorer in asked if not scorer.spec.parts]
    views = [surroundings(box, (original.shape[0], original.shape[1])) for box in boxes]
    widest = max(views, key=lambda view: original[view].size)
    local = panel.bands(original[widest], prompt, config, near)
    names, bands = [name for name in names if name not in local.unfit], whole.width | local.width
    accepted, notes = [], []
    waiting = enumerate(zip(singles, views, strict=True))
    while few := list(islice(waiting, AT_ONCE)):
        before = panel.score([original[view] for _, (_, view) in few], prompt, near)
        after = panel.score([single[view] for _, (single, view) in few], prompt, near)
        apart = panel.score([single for _, (single, _) in few], prompt, far)
        for (index, _), old, new, rest in zip(few, before, after, apart, strict=True):
            old, new = first | old, rest | new
            verdict = compare(panel, old, new, bands, names, config.guard_trade or 0.0)
            if verdict.worse:
                notes.append(f"Region {index + 1} was left as it was: {_moves(old, new, bands, verdict.worse)}.")
            else:
                accepted.append(index)
    return accepted, notes


def surroundings(box: Box, size: tuple[int, int]) -> tuple[slice, slice]:
    """Return where a region is judged: its crop, at least `NEAR` wide, or the picture where that is hardly more."""
    left, top, right, bottom = crop_box(box, size, 0.0, NEAR, max(size))
    if 2 * (right - left) * (bottom - top) > size[0] * size[1]:
        return slice(0, size[0]), slice(0, size[1])
    return slice(top, bottom), slice(left, right)


def decide(
    panel: Panel, candidates: Mapping[str, np.ndarray], prompt: str, config: RefineConfig
) -> tuple[Decision, Scores, Scores]:
    """Choose among the candidates (the original first) and say why, with the scores before and after."""
    order = list(candidates)
    scored = dict(zip(order, panel.score(list(candidates.values()), prompt), strict=True))
    first = scored["original"]
    bands = panel.bands(candidates["original"], prompt, config)
    names, guarded = panel.deciding(first, bands.unfit)
    trade = config.guard_trade or 0.0
    verdicts = {n: compare(panel, first, scored[n], bands.width, names, trade) for n in order[1:]}
    accepted = [name for name in order[1:] if verdicts[name].accepted]
    kept = max(accepted, key=lambda name: (verdicts[name].merit, -order.index(name)), default="original")
    if not names:
        reason = "Nobody here can tell whether it helped: pass scorers=[...], or guard=False to take it unjudged."
    elif kept == "original":
        fallen = {n: _moves(first, scored[n], bands.width, verdicts[n].worse, 3) for n in order[1:]}
        said = [f"Not {n}: {worse or 'no score gained more than its own noise'}." for n, worse in fallen.items()]
        reason = " ".join(said) or "There was nothing to compare with."
    else:
        reason = _why(panel, kept, first, scored[kept], bands, verdicts[kept], names)
    if bands.unfit:
        noise = ", ".join(f"{name} ({value:.2g})" for name, value in bands.unfit.items())
        reason += f" Not counted, because changes that nobody sees move it too far on this picture: {noise}."
    if names and not guarded:
        reason += " No independent scorer covers every axis, so the maps' own scores helped to decide."
    reason += f" {panel.barred}" if panel.barred else ""
    decision = Decision(cast("Kept", kept), reason, guarded, scored, bands.width)
    return decision, Scores(first), Scores(scored[kept])


def choose(
    before: Image.Image, after: Image.Image, prompt: str, judges: Sequence[AnyJudge], own: Own | None = None
) -> tuple[Decision, Scores, Scores]:
    """Choose between a picture and anyone's repair of it, as the pipeline's own guard does.

    Args:
        before: the picture.
        after: the repair.
        prompt: what both are asked to show; empty where only looks count.
        judges: scorers, or functions as `as_scorer` takes them.
        own: the p and a of maps, for an axis that no judge covers.

    Returns:
        The decision, which calls the repair "repainted", and the scores before and after.
    """
    panel = Panel(own or (lambda images, _: [{} for _ in images]), [as_scorer(judge) for judge in judges])
    pictures = {name: np.asarray(image.convert("RGB")) for name, image in (("original", before), ("repainted", after))}
    decision, first, last = decide(panel, pictures, prompt, resolve(RefineConfig(), {}, {}))
    scores = dict(first)
    if prompt.strip() and scores and not any("alignment" in panel.covers(name, scores) for name in scores):
        unread = " Nobody here judged how well the prompt is met."
        return replace(decision, reason=decision.reason + unread, guarded=False), first, last
    return decision, first, last


def _why(
    panel: Panel, kept: str, before: Values, after: Values, bands: Bands, verdict: Verdict, names: Sequence[str]
) -> str:
    """Say what rose, and name everything that fell by more than a small share of its range, noise or not."""
    fallen = [n for n in before if n in after and panel.gain(n, before, after) < -SMALL * panel.width(n, before)]
    within = [n for n in fallen if n in names and n not in verdict.outweighed]
    uncounted = [n for n in fallen if n not in names]
    done = "repainted and restored" if kept == "both" else kept
    reason = f"Kept what was {done}: {_moves(before, after, bands.width, verdict.better, 3)}, "
    if verdict.outweighed:
        reason += f"which outweighs that {_moves(before, after, bands.width, verdict.outweighed)}"
        reason += f"; within its noise {_moves(before, after, bands.width, within)}." if within else "."
    elif within:
        reason += f"and what fell stayed within its noise: {_moves(before, after, bands.width, within)}."
    else:
        reason += "and nothing fell beyond its noise."
    if uncounted:
        reason += f" Did not decide: {_moves(before, after, bands.width, uncounted)}."
    return reason


def _moves(before: Values, after: Values, noise: Values, names: Sequence[str], most: int | None = None) -> str:
    """Say how scores moved, the most moved first."""
    ranked = sorted(names, key=lambda n: -abs(after[n] - before[n]) / (noise[n] + 1e-6))[:most]
    return ", ".join(
        f"{name} {'rose' if after[name] > before[name] else 'fell'} by {abs(after[name] - before[name]):.3g} "
        f"(noise {noise[name]:.2g})"
        for name in ranked
    )
