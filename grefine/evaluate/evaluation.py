"""What an evaluation of two folders found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grefine.evaluate.long_table import ScoreRow
from grefine.evaluate.pairs import Pairing
from grefine.evaluate.prompting import Prompting
from grefine.evaluate.results import Analysis
from grefine.evaluate.verdict import Verdict, headline, sentences, verdict_of
from grefine.types import MetricSpec


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found, and the numbers behind it."""

    rows: tuple[ScoreRow, ...]
    """The long table."""
    specs: Mapping[str, MetricSpec]
    """Metric column → what to know about it."""
    analysis: Analysis
    pairing: Pairing
    prompting: Prompting
    unavailable: Mapping[str, str]
    """Metric → why it did not run."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Image → why it could not be compared."""
    notes: tuple[str, ...] = ()
    forced: str = ""
    """What is to be known of pictures that were judged though the judges do not know their world."""
    computed: int = 0
    """Scores that were computed in this run."""
    reused: int = 0
    """Scores that were known from an earlier one."""
    out: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """ "better", "worse", "no change", "mixed", "unclear" or "no evidence"."""
        return verdict_of(self.analysis)

    @property
    def sentences(self) -> list[str]:
        """The verdict in plain words, then its grounds."""
        said = [f"{headline(self.analysis)}.", *sentences(self.analysis)]
        return [f"{headline(self.analysis)} (forced).", self.forced, *said[1:]] if self.forced else said
