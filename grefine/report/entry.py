"""What a report shows: its images, and what it says beside them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image


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
