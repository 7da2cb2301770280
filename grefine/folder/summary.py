"""How a run went, in numbers and in a table that spreadsheets open."""

from __future__ import annotations

import csv
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from grefine.io.atomic import write_lines
from grefine.io.picture import printable
from grefine.io.prompt_table import safe_cell

if TYPE_CHECKING:
    from grefine.indicators.domain_check import DomainCheck

STATES = {
    "untouched": "untouched",
    "refined": "refined",
    "kept": "kept",
    "beyond": "beyond repair",
    "failed": "failed",
    "skipped": "skipped",
}
"""The states of a journal row, and how a person reads them."""
_MOST_NOTES = 100
SHOWN = 10
"""How many names a summary lists of each kind."""


@dataclass
class RunSummary:
    """What one start of a run did."""

    out: Path | str
    counts: Counter[str] = field(default_factory=Counter)
    """Images by state: untouched, refined, kept (repainted, but the original was better), beyond, failed, skipped."""
    resumed: int = 0
    """Images that an earlier start had done."""
    failed_again: int = 0
    """Failed images that had failed in earlier starts, too."""
    seconds: float = 0.0
    left: int = 0
    """Images that were not reached."""
    stopped: str = ""
    """Why the run ended early, one sentence."""
    interrupted: bool = False
    vanished: int = 0
    """Results of this start that are gone again at its end."""
    unwritten: list[str] = field(default_factory=list)
    """The table or the page of the run, where it could not be written."""
    without_prompt: list[str] = field(default_factory=list)
    """The first images that were judged by quality alone, for want of a prompt."""
    without_prompt_count: int = 0
    unsure: list[str] = field(default_factory=list)
    """The first images whose prompt could not be told, with the reason."""
    unsure_count: int = 0
    beyond: list[str] = field(default_factory=list)
    """The first images that need a new generation."""
    gated: int = 0
    """Untouched images that the gate let pass before any map was drawn."""
    gate: str = ""
    """That gate, as NAME:VALUE."""
    foreign: int = 0
    """Images of a world that the pipeline does not know, refused or forced."""
    domain: DomainCheck | None = None
    force: bool = False
    moved: array[float] = field(default_factory=lambda: array("d"))
    """Of every refined image the share of its pixels that are not as they were."""
    notes: Counter[str] = field(default_factory=Counter)
    """What was said about images, by how often."""

    @property
    def done(self) -> int:
        """Images of this start that came through."""
        return sum(self.counts[state] for state in ("untouched", "refined", "kept", "beyond"))

    @property
    def exit_code(self) -> int:
        """0: every input has its result; 1: some have none; 130: interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.counts["failed"] or self.stopped or self.unwritten or self.vanished else 0

    def add(self, row: dict[str, Any]) -> None:
        """Count one journal row."""
        self.counts[row["state"]] += 1
        self.foreign += bool(row.get("foreign"))
        if row["state"] in ("failed", "skipped"):
            return
        for note in row.get("notes", ()):
            if note in self.notes or len(self.notes) < _MOST_NOTES:
                self.notes[note] += 1
        if row["state"] == "refined" and "moved" in row:
            self.moved.append(row["moved"])
        gate = row.get("gate") or {}
        if gate.get("passed"):
            self.gated += 1
            self.gate = f"{gate['value']}:{gate['bound']:g}"
        if row["state"] == "beyond" and len(self.beyond) < SHOWN:
            self.beyond.append(printable(row["file"]))
        if row.get("prompt_unsure"):
            self.unsure_count += 1
            if len(self.unsure) < SHOWN:
                self.unsure.append(f"{printable(row['file'])} ({row['prompt_unsure']})")
        elif not row.get("prompt"):
            self.without_prompt_count += 1
            if len(self.without_prompt) < SHOWN:
                self.without_prompt.append(printable(row["file"]))

    @property
    def told(self) -> str:
        """What is said once of images that the pipeline does not know."""
        return self.domain.told(self.foreign, sum(self.counts.values()), self.force) if self.domain else ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "out": str(self.out),
            "counts": {state: self.counts[state] for state in STATES},
            "resumed": self.resumed,
            "failed_again": self.failed_again,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.done / self.seconds, 3) if self.seconds else 0.0,
            "left": self.left,
            "stopped": self.stopped,
            "interrupted": self.interrupted,
            "without_prompt": self.without_prompt_count,
            "unsure": self.unsure_count,
            "vanished": self.vanished,
            "gated": self.gated,
            "foreign": self.foreign,
            "forced": self.force and bool(self.foreign),
            "moved": round(median(self.moved), 4) if self.moved else None,
            "exit_code": self.exit_code,
        }

    def lines(self) -> list[str]:
        """Return the summary as a person reads it."""
        counts = (
            ", ".join(f"{self.counts[state]:,} {word}" for state, word in STATES.items() if self.counts[state])
            or "nothing to do"
        )
        rate = f", {self.done / self.seconds:.2f} images/s" if self.seconds and self.done else ""
        took = f" in {_duration(self.seconds)}" if self.seconds else ""
        lines = [f"{counts}{took}{rate}. Results: {printable(self.out)}"]
        lines += [self.told] if self.told else []
        if self.moved:
            spread = f"{min(self.moved):.0%} to {max(self.moved):.0%}"
            lines.append(f"In the refined ones {median(self.moved):.0%} of the pixels changed ({spread}).")
        if self.resumed:
            lines.append(f"{self.resumed:,} were already done by an earlier start.")
        if self.failed_again:
            lines.append(f"{self.failed_again:,} of the failed ones had failed before.")
        if self.stopped:
            lines.append(f"{self.stopped} {self.left:,} images are left; start again with the same line to go on.")
        if self.vanished:
            lines.append(f"{self.vanished:,} results are gone again: somebody removed them; start again to make them.")
        lines += [f"{name} could not be written." for name in self.unwritten]
        if self.gated:
            lines.append(f"{self.gated:,} passed the gate {self.gate} and were left alone without drawing maps.")
        if self.counts["beyond"]:
            count = self.counts["beyond"]
            head = f"{count:,} {'is' if count == 1 else 'are'} beyond repair and should be generated anew"
            lines += _listed(f"{head} (more would have to be drawn anew than max_area allows):", self.beyond)
        if self.without_prompt_count:
            lines += _listed(
                f"{self.without_prompt_count:,} had no prompt: only quality was judged.", self.without_prompt
            )
        lines += [note for note, count in self.notes.items() if count == self.done > 1]
        if self.unsure_count:
            lines += _listed(f"{self.unsure_count:,} had a prompt that could not be told:", self.unsure)
        return lines


class _Line:
    """What a CSV writer writes into: it hands the line back."""

    write = staticmethod(str)


def write_table(rows: Iterable[dict[str, Any]], metrics: Iterable[str], path: Path) -> None:
    """Write one line per image: what was done, why, and the scores before and after."""
    write_lines(path, _table(rows, sorted(metrics, key=lambda name: ({"p": 0, "a": 1}.get(name, 2), name))))


def _table(rows: Iterable[dict[str, Any]], ordered: list[str]) -> Iterator[str]:
    writer = csv.writer(_Line())
    heads = [f"{name} {side}" for name in ordered for side in ("before", "after")]
    yield writer.writerow(["file", "state", "reason", "kept", "prompt", "prompt from", "area", "moved", *heads])
    for row in rows:
        scores = row.get("scores") or {"before": {}, "after": {}}
        values = [scores[side].get(name, "") for name in ordered for side in ("before", "after")]
        kept = (row.get("decision") or {}).get("kept", "")
        cells = [row["file"], row["state"], row["reason"], kept, row.get("prompt", ""), row.get("prompt_origin", "")]
        texts = [safe_cell(printable(cell)) for cell in cells]
        yield writer.writerow([*texts, row.get("area", ""), row.get("moved", ""), *values])


def _listed(head: str, names: list[str]) -> list[str]:
    return [head, *(f"  {name}" for name in names)]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
