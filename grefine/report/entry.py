"""What a report shows: its images, what is said beside them, and what `grefine refine` left behind of its results."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine.errors import ImageError
from grefine.io.content import content_hash
from grefine.io.images import read_image
from grefine.io.record import read_record
from grefine.io.run_files import JOURNAL, STATE_FOLDER, LastRows, layers_at


@dataclass(frozen=True, slots=True)
class ReportImage:
    """One image of a report. Everything but the name and the two pictures may be missing."""

    name: str
    before: Path | str | Image.Image
    after: Path | str | Image.Image
    quality: np.ndarray | Path | str | None = None
    """P as `(H, W)` with 1 = good, or a PNG made by `layer_png("quality", P)`."""
    alignment: np.ndarray | Path | str | None = None
    """A likewise."""
    mask: np.ndarray | Path | str | None = None
    """True = repainted."""
    prompt: str = ""
    emphasis: tuple[tuple[int, int, float], ...] = ()
    """(start, end, weight) over the characters of `prompt`."""
    kept: str = ""
    """"original", "repainted", "both" or "restored"; empty when it is not known."""
    reason: str = ""
    guarded: bool | None = None
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Metric → (before, after)."""
    noise: Mapping[str, float] = field(default_factory=dict)
    """Metric → the change that counts as none on this image."""
    gains: Mapping[str, float] = field(default_factory=dict)
    """"perceptual" and "alignment" → gain of the whole axis, positive = better; what the gallery sorts by."""
    group: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportText:
    """What a report says beside its images."""

    title: str
    subtitle: str = ""
    headline: str = ""
    """Replaces the verdict's own headline; needed when there is no analysis."""
    tone: str = "even"
    """"gain", "loss" or "even"; used with `headline`."""
    sentences: tuple[str, ...] = ()
    forced: str = ""
    """What is to be known of pictures that the pipeline or the judges do not know; it marks the headline."""
    facts: tuple[tuple[str, str], ...] = ()
    """(what, value) lines about the run."""
    missing: tuple[tuple[str, str], ...] = ()
    """(metric or file, reason) for everything that is not in the tables."""
    notes: tuple[str, ...] = ()
    decided: Mapping[str, int] | None = None
    """All images by decision, where the gallery shows but some."""


SOURCE_DIFFERS = "came from other inputs than those compared here, so their maps are not shown"


class RefineRecords:
    """Looks up results one at a time; the journal of each run is read once."""

    def __init__(self) -> None:
        self._rows: dict[Path, dict[str, dict[str, Any]]] = {}
        self.strangers = 0
        """Results of ours that were made from another file than the one they are compared with."""

    def about(self, before: Path, after: Path) -> dict[str, Any]:
        """Return fields of a `ReportImage` for a result of ours; nothing for any other picture."""
        try:
            record = read_record(read_image(after).embedded)
        except ImageError:
            return {}
        if record is None:
            return {}
        found: dict[str, Any] = {
            "kept": decision_name(record.state, record.kept),
            "reason": record.reason,
            "guarded": record.guarded if record.state in ("refined", "kept") else None,
        }
        source = content_hash(before)
        if record.source != source:
            self.strangers += bool(record.source)  # a node knows pictures, no files
            return found
        # Its nearest folder upwards that holds a journal.
        above = Path(os.path.abspath(after)).parents
        out = next((folder for folder in above if (folder / STATE_FOLDER / JOURNAL).is_file()), None)
        if out is None:
            return found
        name = Path(after).absolute().relative_to(out).as_posix()
        if out not in self._rows:
            rows = LastRows(out / STATE_FOLDER / JOURNAL)
            self._rows[out] = {row["output"]: row for row in rows if isinstance(row.get("output"), str)}
        row = self._rows[out].get(name)
        if row is None or (row.get("input") or {}).get("sha256") != source:
            return found
        return found | asked_of(row) | layers_at(out, name)


def decision_name(state: str, kept: str) -> str:
    """Return what a page calls the decision: which candidate was taken, or why it is the original."""
    return kept if state == "refined" and kept else state


def asked_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the prompt of a journal row with what was emphasised in it, when something was."""
    try:
        asked = dict(row.get("asked") or {})
        weights = tuple((int(start), int(end), float(weight)) for start, end, weight in asked.get("weights", ()))
    except (TypeError, ValueError):  # a journal that somebody else wrote
        return {}
    return {"prompt": asked["text"], "emphasis": weights} if weights else {}
