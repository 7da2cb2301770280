"""What a comparison of refiners found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from grefine.evaluate.long_table import ScoreRow
from grefine.evaluate.results import Analysis
from grefine.evaluate.tables import WideTable, negative_optimisations
from grefine.evaluate.verdict import Verdict, verdict_of
from grefine.types import MetricSpec

ORIGINAL = "original"


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
        counted = [m.metric for m in next(iter(self.analyses.values())).metrics if m.evidence] if self.analyses else []
        columns = [self.table.metrics.index(metric) for metric in counted]
        rows = [
            {"method": method, **{self.table.metrics[c]: cells[c].value for c in columns}}
            for method, cells in self.table.rows
        ]
        return negative_optimisations(rows, ORIGINAL, directions=self.table.directions)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Method → verdict."""
        return {method: verdict_of(found) for method, found in self.analyses.items()}
