"""What an evaluation of two folders, and a comparison of refiners, found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grefine.evaluate.long_table import ScoreRow
from grefine.evaluate.pairs import Pairing, Prompting
from grefine.evaluate.results import Analysis, Verdict, headline, sentences, verdict_of
from grefine.evaluate.tables import WideTable
from grefine.types import MetricSpec

ORIGINAL = "original"
"""The inputs' name among the methods of a comparison."""


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


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found."""

    rows: tuple[ScoreRow, ...]
    specs: Mapping[str, MetricSpec]
    table: WideTable
    analyses: Mapping[str, Analysis]
    """Method → findings against the original."""
    files: Mapping[str, Mapping[str, Path]]
    """Method → image → file, for the images that every method has."""
    prompts: Mapping[str, str]
    groups: Mapping[str, str] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    """"method: image" or method → why there is no output."""
    notes: tuple[str, ...] = ()
    forced: str = ""
    """What is to be known of pictures that were judged though the judges do not know their world."""

    @property
    def negative_optimisations(self) -> dict[str, int]:
        """Method → number of metrics of evidence whose mean fell below the original's, as the paper counts."""
        named = [metric in self.evidence for metric in self.table.metrics]
        return {
            method: sum(cell.worse for cell, counted in zip(cells, named, strict=True) if counted)
            for method, cells in self.table.rows
            if method != ORIGINAL
        }

    @property
    def evidence(self) -> list[str]:
        """The metrics that may judge; they are the same for every method."""
        return [m.metric for found in list(self.analyses.values())[:1] for m in found.metrics if m.evidence]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Method → verdict."""
        return {method: verdict_of(found) for method, found in self.analyses.items()}
