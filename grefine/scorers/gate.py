"""A cheap first judge: pictures that it already finds good enough need not be looked at further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grefine.errors import ConfigError, nearest
from grefine.scorers.choice import load_scorers
from grefine.scorers.protocol import Scorer

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class ScoreGate:
    """Lets through what is good enough by one value of one metric."""

    scorer: Scorer
    value: str
    """Name of the value compared, e.g. "mdiqa.overall"."""
    bound: float

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
        sign = 1 if self.scorer.spec.direction == "higher" else -1
        return [sign * scores[self.value] >= sign * self.bound for scores in self.scorer(images, prompts)]


def read_gate(text: str, weights: Sequence[str] = (), pipeline: str | None = None, device: str = "cpu") -> ScoreGate:
    """Build a gate from NAME:VALUE, e.g. "lar_iqa:0.8" or "mdiqa.sharpness:0.6".

    Raises:
        ConfigError: another form, or a value that the metric does not give.
    """
    name, sign, bound = text.rpartition(":")
    try:
        number = float(bound)
    except ValueError:
        number = float("nan")
    if not (name and sign) or number != number:
        raise ConfigError(f"--gate takes NAME:VALUE with a number, such as lar_iqa:0.8, not '{text}'.")
    metric, _, part = name.partition(".")
    scorers, _ = load_scorers([metric], weights, pipeline, device)
    ((own, scorer),) = scorers.items()
    given = value_names(own, scorer)
    value = given[0] if not part else f"{own}.{part.lower()}"
    if value not in given:
        raise ConfigError(f"--gate: {own} gives {', '.join(given)}, not '{value}'{nearest(value, given)}")
    return ScoreGate(scorer, value, number)


def value_names(metric: str, scorer: Scorer) -> list[str]:
    """Return the names of the values that a scorer gives, the main one first."""
    from grefine.scorers.learned import MDIQAScorer, MoEAGIQAScorer

    if isinstance(scorer, MDIQAScorer):
        return [*(["mdiqa.overall"] if scorer.whole else []), *(f"mdiqa.{name}" for name in scorer.dimensions)]
    if isinstance(scorer, MoEAGIQAScorer):
        return [f"moe_agiqa.{name}" for name in scorer.model.config["outputs"]]
    return [metric]
