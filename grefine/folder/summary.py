"""How a run went, in numbers and in a table that spreadsheets open."""

import csv
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from grefine.errors import ConfigError
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
COLUMNS = ("file", "state", "reason", "kept", "prompt", "prompt_from", "seed", "width", "height", "area", "moved")
COLUMNS += ("regions", "kinds", "strengths", "failed_phrases", "seconds")
"""Heads of the table; the scores stand before the last one."""
_MOST_NOTES = 100
_NOTES_SHOWN = 3
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
    domain: "DomainCheck | None" = None
    force: bool = False
    moved: "array[float]" = field(default_factory=lambda: array("d"))
    """Of every refined image the share of its pixels that are not as they were."""
    notes: Counter[str] = field(default_factory=Counter)
    """What was said about images, by how often."""
    own_prompts: int = 0
    """Images that had a prompt of their own although one was given for all."""
    planned: list[dict[str, Any]] | None = None
    """The rows of a dry run; None for a real one."""

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
        elif row.get("prompt_set_aside"):
            self.own_prompts += 1
        elif not row.get("prompt"):
            self.without_prompt_count += 1
            if len(self.without_prompt) < SHOWN:
                self.without_prompt.append(printable(row["file"]))

    @property
    def told(self) -> str:
        """What is said once of images that the pipeline does not know."""
        return self.domain.told(self.foreign, sum(self.counts.values()), self.force) if self.domain else ""

    def to_dataframe(self) -> Any:
        """Return the run as a `pandas.DataFrame`, one row per image: what results.csv holds, or a dry run would do."""
        try:
            import pandas
        except ImportError as error:
            raise ConfigError("to_dataframe needs pandas: pip install pandas.") from error
        if self.planned is not None:
            return pandas.DataFrame([cells_of(row) for row in self.planned], columns=list(COLUMNS))
        table = Path(self.out) / "results.csv"
        if not table.is_file():
            raise ConfigError(f"'{printable(table)}' is not there: only runs into a folder write a table.")
        return pandas.read_csv(table)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = ("resumed", "failed_again", "left", "stopped", "interrupted", "vanished", "gated", "foreign")
        return {
            "out": str(self.out),
            "counts": {state: self.counts[state] for state in STATES},
            **{name: getattr(self, name) for name in (*plain, "exit_code")},
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.done / self.seconds, 3) if self.seconds else 0.0,
            "without_prompt": self.without_prompt_count,
            "unsure": self.unsure_count,
            "forced": self.force and bool(self.foreign),
            "moved": round(median(self.moved), 4) if self.moved else None,
        } | ({} if self.planned is None else {"planned": self.planned})

    def lines(self) -> list[str]:
        """Return the summary as a person reads it."""

        def listed(count: int, head: str, names: list[str]) -> list[str]:
            return [f"{count:,} {head}", *(f"  {name}" for name in names)] if count else []

        words = STATES | ({} if self.planned is None else {"refined": "to repaint"})
        counts = [f"{self.counts[state]:,} {word}" for state, word in words.items() if self.counts[state]]
        rate = f", {self.done / self.seconds:.2f} images/s" if self.seconds and self.done else ""
        spent = f"{self.seconds:.1f} s" if self.seconds < 90 else str(timedelta(seconds=round(self.seconds)))
        took = f" in {spent}" if self.seconds else ""
        told = f"{', '.join(counts) or 'nothing to do'}{took}"
        lines = [f"{told}{rate}. Results: {printable(self.out)}"]
        if self.planned is not None:
            lines = [*_plan_lines(self.planned), "", f"{told}. A dry run: nothing was written."]
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
        count = self.counts["beyond"]
        head = f"{'is' if count == 1 else 'are'} beyond repair and should be generated anew"
        lines += listed(count, f"{head} (more would have to be drawn anew than max_area allows):", self.beyond)
        lines += listed(self.without_prompt_count, "had no prompt: only quality was judged.", self.without_prompt)
        if self.own_prompts:
            text = "had a prompt of their own, which comes before --prompt (--prompt-order prompt turns that round)."
            lines.append(f"{self.own_prompts:,} {text}")
        for note, count in self.notes.most_common(_NOTES_SHOWN):
            lines.append(note if count == self.done else f"{count:,} of {self.done:,}: {note}")
        return lines + listed(self.unsure_count, "had a prompt that could not be told:", self.unsure)


def write_table(rows: Iterable[dict[str, Any]], metrics: Iterable[str], path: Path) -> None:
    """Write one line per image: what was done, why, and the scores before and after."""
    ordered = sorted(metrics, key=lambda name: ({"p": 0, "a": 1}.get(name, 2), name))
    heads = [f"{name}_{side}" for name in ordered for side in ("before", "after")]
    writer = csv.writer(SimpleNamespace(write=str))  # type: ignore[arg-type] # so that writerow gives the line

    def table() -> Iterator[str]:
        yield writer.writerow([*COLUMNS[:-1], *heads, COLUMNS[-1]])
        for row in rows:
            scores = row.get("scores") or {"before": {}, "after": {}}
            values = [scores[side].get(name, "") for name in ordered for side in ("before", "after")]
            *known, seconds = cells_of(row)
            yield writer.writerow([*known, *values, seconds])

    write_lines(path, table())


def cells_of(row: Mapping[str, Any]) -> list[Any]:
    """Return what a journal row says under `COLUMNS`; a dry run shows the same."""
    found, (width, height) = row.get("regions", ""), row.get("size") or ("", "")
    regions, count = (found, len(found)) if isinstance(found, list) else ([], found)
    kinds = ", ".join(dict.fromkeys(region["kind"] for region in regions))
    strengths = ", ".join(f"{region['strength']:.2f}" for region in regions)
    kept = (row.get("decision") or {}).get("kept", "")
    texts = [row["file"], row["state"], row["reason"], kept, row.get("prompt", ""), row.get("prompt_origin", "")]
    failed = safe_cell(printable("; ".join(row.get("missing") or ())))
    spent = [value for value in (row.get("seconds") or {}).values() if isinstance(value, int | float)]
    numbers = [row.get("seed", ""), width, height, row.get("area", ""), row.get("moved", "")]
    numbers += [count, kinds, strengths]
    return [*(safe_cell(printable(text)) for text in texts), *numbers, failed, round(sum(spent), 3)]


def _plan_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return what a dry run would do as a table that a terminal shows."""
    heads = ("file", "would be", "area", "regions", "kinds", "strengths", "failed phrases")
    table = [heads]
    for row in rows:
        found = dict(zip(COLUMNS, cells_of(row), strict=True))
        area = f"{found['area']:.1%}" if found["area"] != "" else ""
        state = "repainted" if row["state"] == "refined" else row["state"]
        cells = (found["file"], state, area, *(str(found[name]) for name in COLUMNS[11:15]))
        table.append(tuple(cell if len(cell) <= 40 else f"{cell[:39]}…" for cell in cells))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
