"""A cheap first judge: pictures that it already finds good enough need not be looked at further."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grefine.errors import ConfigError, GRefineError, WeightsMissing, nearest
from grefine.scorers.choice import load_scorers
from grefine.scorers.protocol import Scorer
from grefine.scorers.registry import find_weights, known_metric

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What the gate said of one picture."""

    value: str
    """Name of the value compared."""
    bound: float
    passed: bool
    """True when the picture is good enough to be left alone."""
    score: float | None = None
    """None when the judge could not judge this picture, which then is looked at in full."""
    note: str = ""
    """Why there is no score."""

    @property
    def name(self) -> str:
        """The gate as it is typed."""
        return f"{self.value}:{self.bound:g}"


@dataclass(frozen=True)
class ScoreGate:
    """Lets through what is good enough by one value of one metric."""

    scorer: Scorer
    value: str
    """Name of the value compared, e.g. "mdiqa.overall"."""
    bound: float
    weights: Path | None = None
    """Where the judge's weights lie; None for a judge without any, or one that a pipeline carries."""

    @property
    def name(self) -> str:
        """The gate as it is typed."""
        return f"{self.value}:{self.bound:g}"

    @property
    def warning(self) -> str:
        """What the person who uses it should know; empty for a judge that sees prompt and picture."""
        if self.scorer.spec.axis == "perceptual":
            return (
                f"The gate {self.value} sees perception only: a picture that misses its prompt passes as good when it "
                "looks good."
            )
        return ""

    def good_enough(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[bool]:
        """Return for each image whether it reaches the bound, in the metric's own direction."""
        return [self._reaches(scores[self.value]) for scores in self.scorer(images, prompts)]

    def look(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[GateVerdict]:
        """Judge images of a run: what cannot be judged (too small, no prompt) does not pass, and is said."""
        mute = {i for i, prompt in enumerate(prompts) if self.scorer.spec.needs_prompt and not prompt.strip()}
        asked = [i for i in range(len(images)) if i not in mute]
        found = {i: GateVerdict(self.value, self.bound, False, note="it needs a prompt") for i in mute}
        try:
            found |= dict(
                zip(asked, self._judge([images[i] for i in asked], [prompts[i] for i in asked]), strict=True)
            )
        except GRefineError as error:
            if len(images) == 1:
                return [GateVerdict(self.value, self.bound, False, note=str(error))]
            return [self.look([image], [prompt])[0] for image, prompt in zip(images, prompts, strict=True)]
        return [found[i] for i in range(len(images))]

    def _judge(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[GateVerdict]:
        verdicts = []
        for scores in self.scorer(images, prompts) if images else ():
            score = float(scores[self.value])
            known = math.isfinite(score)
            note = "" if known else "it gave no number"
            verdicts.append(
                GateVerdict(self.value, self.bound, known and self._reaches(score), score if known else None, note)
            )
        return verdicts

    def _reaches(self, score: float) -> bool:
        sign = 1 if self.scorer.spec.direction == "higher" else -1
        return sign * score >= sign * self.bound


def parse_gate(text: str) -> tuple[str, str, float]:
    """Read NAME:VALUE into metric, part of the metric ("" for its main value) and bound; nothing is loaded.

    Raises:
        ConfigError: another form, or an unknown metric, with the nearest name.
    """
    name, sign, bound = text.rpartition(":")
    try:
        number = float(bound)
    except ValueError:
        number = math.nan
    if not (name.strip() and sign) or not math.isfinite(number):
        raise ConfigError(f"--gate takes NAME:VALUE with a number, such as lar_iqa:0.8, not '{text}'.")
    metric, _, part = name.partition(".")
    return known_metric(metric), part.strip().lower(), number


def make_gate(text: str, scorer: Scorer, weights: Path | None = None) -> ScoreGate:
    """Build the gate that NAME:VALUE means around a scorer of that metric.

    Raises:
        ConfigError: another form, or a value that the metric does not give.
    """
    metric, part, bound = parse_gate(text)
    given = value_names(metric, scorer)
    value = f"{metric}.{part}" if part else given[0]
    if value not in given:
        raise ConfigError(f"--gate: {metric} gives {', '.join(given)}, not '{value}'{nearest(value, given)}")
    return ScoreGate(scorer, value, bound, weights)


def read_gate(
    text: str,
    weights: Sequence[str] = (),
    pipeline: str | None = None,
    device: str = "cpu",
    allow_noncommercial: bool = False,
) -> ScoreGate:
    """Load the judge and build a gate from NAME:VALUE, e.g. "lar_iqa:0.8" or "mdiqa.sharpness:0.6".

    Raises:
        ConfigError: another form, or a value that the metric does not give.
        WeightsMissing, WeightsCorrupt, MetricUnavailable: the metric cannot run here.
    """
    metric, _, _ = parse_gate(text)
    scorers, setup = load_scorers([metric], weights, pipeline, device, allow_noncommercial)
    return make_gate(text, scorers[metric], _weights_of(metric, setup))


def _weights_of(metric: str, setup: dict[str, Any]) -> Path | None:
    _, state = setup[metric]
    try:
        return find_weights(metric, state[0] if state else None)
    except WeightsMissing:
        return None


def value_names(metric: str, scorer: Scorer) -> list[str]:
    """Return the names of the values that a scorer gives, the main one first."""
    from grefine.scorers.learned import DomainScorer, MDIQAScorer, MoEAGIQAScorer

    if isinstance(scorer, DomainScorer):
        scorer = scorer.scorer
    if isinstance(scorer, MDIQAScorer):
        return [*(["mdiqa.overall"] if scorer.whole else []), *(f"mdiqa.{name}" for name in scorer.dimensions)]
    if isinstance(scorer, MoEAGIQAScorer):
        return [f"moe_agiqa.{name}" for name in scorer.model.config["outputs"]]
    return [metric]
