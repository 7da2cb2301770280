"""More tries at a region where they pay, and the judge that takes the best of them; it does not decide afterwards."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from grefine.errors import ConfigError, PromptError, nearest
from grefine.refine.composite import rounded
from grefine.refine.guidance import WHOLE
from grefine.refine.inputs import derive
from grefine.refine.job import Job
from grefine.refine.painters.protocol import CropJob, Painted, Painter
from grefine.refine.settings import RefineConfig
from grefine.scorers.fidelity import ssim
from grefine.scorers.noise import metric_width
from grefine.scorers.protocol import Scorer, as_scorer, value_names
from grefine.scorers.registry import split_names, split_value
from grefine.scorers.resolve import resolve

ALIKE = 0.1
"""Tries whose rates lie within this share of the judges' ranges of the best one's count as equally good."""


@dataclass(frozen=True)
class Part:
    """One value that chooses."""

    scorer: Scorer
    value: str
    weight: float = 1.0

    def of(self, pictures: Sequence[Image.Image], prompt: str) -> np.ndarray:
        """Return it for every picture, higher = better, as a share of its range."""
        given = self.scorer(pictures, [prompt] * len(pictures))
        if self.value not in given[0]:
            has, name = ", ".join(given[0].keys()), self.scorer.spec.name
            raise ConfigError(f"candidates: {name} gave {has}, not '{self.value}': name one, as in '{name}.VALUE'.")
        found = [scores[self.value] for scores in given]
        sign = -1.0 if self.scorer.spec.direction == "lower" else 1.0
        return self.weight * sign * np.asarray(found) / metric_width(self.scorer.spec, found[0])


@dataclass(frozen=True)
class Chooser:
    """How often a region is drawn, and who takes one of the tries: by `parts`, or `wordless` without a prompt."""

    tries: int = 1
    parts: tuple[Part, ...] = ()
    wordless: tuple[Part, ...] = ()

    def under(self, prompt: str) -> tuple[Part, ...]:
        """Return what chooses under a prompt."""
        return self.parts if prompt.strip() else self.wordless

    def names(self, prompt: str) -> list[str]:
        """Return who chooses under a prompt and so does not decide."""
        return list(dict.fromkeys(part.scorer.spec.name for part in self.under(prompt)))

    def need_prompts(self, jobs: Sequence[Job]) -> None:
        """Refuse a picture without a prompt whose judge was named and needs one."""
        for job in jobs:
            needy = [part.scorer.spec.name for part in self.under(job.text) if part.scorer.spec.needs_prompt]
            if needy and not job.text.strip():
                raise PromptError(f"candidates: {needy[0]} chooses by the prompt: give image {job.row} one.")

    def rate(self, pictures: Sequence[np.ndarray], prompt: str) -> np.ndarray:
        """Return what the judges that choose say of pictures, higher = better."""
        images = [Image.fromarray(rounded(picture)) for picture in pictures]
        return np.sum([part.of(images, prompt) for part in self.under(prompt)], axis=0)

    def take(self, pictures: Sequence[np.ndarray], rates: np.ndarray, prompt: str) -> int:
        """Return which try is taken: of those about as good as the best, the one that keeps most of the picture."""
        band = ALIKE * sum(part.weight for part in self.under(prompt))
        own = np.nan_to_num(rates[1:], nan=-np.inf, posinf=np.inf, neginf=-np.inf)  # what cannot be rated comes last
        good = np.flatnonzero(own >= own.max() - band)
        first, *tries = (rounded(picture) for picture in pictures)
        moved = np.any([(tries[i] != first).any(axis=2) for i in good], axis=0)
        if len(good) == 1 or not moved.any():
            return int(good[0])
        rows, columns = (np.flatnonzero(moved.any(axis=axis)) for axis in (1, 0))
        place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return max((int(i) for i in good), key=lambda i: ssim(tries[i][place], first[place]))


def open_chooser(config: RefineConfig, judges: Sequence[Scorer], pipe: Any) -> Chooser:
    """Return who chooses, of these judges or by name over the pipeline's own networks; nobody for one try each."""
    tries, by = config.tries
    if tries == 1:
        return Chooser()
    if by:
        parts = tuple(part for entry in split_names(by) for part in _named(entry, judges, pipe))
        return Chooser(tries, parts, parts)

    steering = [name.replace("-", "_") for name in WHOLE]  # who can guide a repaint is the first to choose one
    order = sorted(judges, key=lambda judge: steering.index(judge.spec.name) if judge.spec.name in steering else 9)
    able = [judge for judge in order if judge.spec.axis != "none"]
    if not able:
        raise ConfigError(f"candidates={tries} needs a judge to choose: name one, as in candidates='{tries} by piqe'.")
    wordless = [judge for judge in able if not judge.spec.needs_prompt] or able
    return Chooser(tries, _main(able[0]), _main(wordless[0]))


def _main(judge: Scorer, weight: float = 1.0) -> tuple[Part, ...]:
    """Return a judge's main value; all values of one that judges both looks and prompt."""
    values = value_names(judge)
    return tuple(Part(judge, value, weight) for value in (values if judge.spec.axis == "both" else values[:1]))


def _named(entry: str, judges: Sequence[Scorer], pipe: Any) -> tuple[Part, ...]:
    """Read NAME, NAME.VALUE or either with *WEIGHT behind it."""
    match = re.fullmatch(r"(.+?)\s*\*\s*(\d+(?:\.\d+)?)", entry)
    name, weight = (match[1], float(match[2])) if match else (entry, 1.0)
    here = {judge.spec.name: judge for judge in judges}
    head, _, rest = name.partition(".")
    metric, part = (name, "") if name in here else (head, rest) if head in here else split_value(name)
    if metric not in here:
        loaded: dict[str, Scorer] = vars(pipe).setdefault("_choosing", {})  # once per pipeline
        if metric not in loaded:
            loaded[metric] = as_scorer(resolve(metric, pipeline=pipe, device=str(pipe.device)).load())
        here = loaded
    scorer = here[metric]
    given, value = value_names(scorer), f"{metric}.{part}"
    if not part:
        return _main(scorer, weight)
    if value not in given:
        raise ConfigError(f"candidates: {metric} gives {', '.join(given)}, not '{value}'{nearest(value, given)}")
    return (Part(scorer, value, weight),)


def draw_tries(
    crops: Sequence[CropJob], painter: Painter, chooser: Chooser, pasted: Callable[[CropJob, np.ndarray], np.ndarray]
) -> list[Painted]:
    """Draw every crop, what is drawn anew or came back no better more often, and return the best try."""
    if chooser.tries == 1:
        return painter(crops)

    def pictures(crop: CropJob, tries: Sequence[Painted]) -> list[np.ndarray]:
        return [crop.job.pixels, *(pasted(crop, one.pixels) for one in tries)]

    def rated(crop: CropJob, tries: Sequence[Painted]) -> np.ndarray:
        """Return the rates of the picture and of it with each try."""
        rates = chooser.rate(pictures(crop, tries), crop.job.text)
        rates[1:][[bool(one.lost) for one in tries]] = -np.inf
        return rates

    tries: list[list[Painted]] = [[] for _ in crops]
    rates = [np.empty(0)] * len(crops)
    numbers = [range(1 if crop.source_visible else chooser.tries) for crop in crops]  # 0 has the crop's own seed
    while any(numbers):
        asked = [
            replace(crop, seed=derive(crop.seed, "try", number)) if number else crop
            for crop, own in zip(crops, numbers, strict=True)
            for number in own
        ]
        done = iter(painter(asked))
        for index, own in enumerate(numbers):
            tries[index] += [next(done) for _ in own]
            rates[index] = rated(crops[index], tries[index]) if own else rates[index]
        poor = [len(rate) == 2 and rate[1] <= rate[0] for rate in rates]
        numbers = [range(1, chooser.tries) if bad else range(0) for bad in poor]
    return [
        replace(own[chooser.take(pictures(crop, own), r, crop.job.text)], drawn=len(own))
        for crop, own, r in zip(crops, tries, rates, strict=True)
    ]
