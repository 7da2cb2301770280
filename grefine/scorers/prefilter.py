"""A cheap first judge: pictures that it already finds good enough need not be looked at further."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from grefine.errors import ConfigError, nearest
from grefine.scorers.protocol import Scorer, rate, value_names
from grefine.scorers.registry import split_value
from grefine.scorers.resolve import Weights, resolve


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

    def look(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[GateVerdict]:
        """Judge images of a run: what cannot be judged (too small, no prompt) does not pass, and is said."""
        asked = [i for i, prompt in enumerate(prompts) if prompt.strip() or not self.scorer.spec.needs_prompt]
        rated = rate(self.scorer, [images[i] for i in asked], [prompts[i] for i in asked])
        verdicts = [GateVerdict(self.value, self.bound, False, note="it needs a prompt")] * len(images)
        for i, found in zip(asked, rated, strict=True):
            score = found[self.value] if isinstance(found, Mapping) else math.nan
            if math.isfinite(score):
                passed = score >= self.bound if self.scorer.spec.direction == "higher" else score <= self.bound
                verdicts[i] = replace(verdicts[i], passed=passed, score=score, note="")
            else:
                said = "it gave no number" if isinstance(found, Mapping) else str(found)
                verdicts[i] = replace(verdicts[i], note=said)
        return verdicts


def parse_gate(text: str) -> tuple[str, str, float]:
    """Read NAME:VALUE into metric, part of the metric ("" for its main value) and bound; nothing is loaded."""
    name, sign, bound = text.rpartition(":")
    try:
        number = float(bound)
    except ValueError:
        number = math.nan
    if not (name.strip() and sign) or not math.isfinite(number):
        raise ConfigError(f"--gate takes NAME:VALUE with a number, such as lar_iqa:0.8, not '{text}'.")
    return *split_value(name), number


def read_gate(
    text: str, weights: Weights = (), pipeline: Any = None, device: str = "cpu", allow_noncommercial: bool = False
) -> ScoreGate:
    """Load the judge and build a gate from NAME:VALUE, e.g. "lar_iqa:0.8" or "mdiqa.sharpness:0.6"."""
    metric, part, bound = parse_gate(text)
    judge = resolve(metric, weights=weights, pipeline=pipeline, device=device, allow_noncommercial=allow_noncommercial)
    scorer = judge.scorer()
    given = value_names(scorer)
    value = f"{metric}.{part}" if part else given[0]
    if value not in given:
        raise ConfigError(f"--gate: {metric} gives {', '.join(given)}, not '{value}'{nearest(value, given)}")
    return ScoreGate(scorer, value, bound, judge.weights)
