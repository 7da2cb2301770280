"""One image on its way through the pipeline: what came in, what was found, and every candidate for what goes out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from grefine.refine.inputs import Picture
from grefine.types import AlignmentMap, Decision, ParsedPrompt, QualityMap, RepairPlan, Scores


@dataclass
class Job:
    """Everything about one image of a call; `candidates` grows as the stages run."""

    picture: Picture
    prompt: str
    parsed: ParsedPrompt | None
    seed: int
    """Mixed from the caller's seed, the pixels and the sample number."""
    given_seed: int | None
    """What to pass to `manual_seed` to have this again."""
    user_mask: np.ndarray | None = None
    row: int = 0
    """Which of the caller's prompts and embeddings is this job's."""
    quality: QualityMap = field(init=False)
    alignment: AlignmentMap = field(init=False)
    plan: RepairPlan = field(init=False)
    decision: Decision = field(init=False)
    before: Scores = field(init=False)
    after: Scores = field(init=False)
    candidates: dict[str, np.ndarray] = field(default_factory=dict)
    """Pictures `(H, W, 3)` in 0..255 by name: original (uint8), repainted, both, restored (not yet rounded)."""
    base: str = "original"
    """The candidate that stage 2 builds on."""
    timings: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    forced: str = ""
    """What stands before the reason of a picture that the pipeline does not know."""

    @property
    def pixels(self) -> np.ndarray:
        """The original."""
        return self.picture.pixels

    @property
    def current(self) -> np.ndarray:
        """What stage 2 builds on: the repainted picture where it was not rejected, or the original."""
        return self.candidates.get(self.base, self.pixels)

    @property
    def text(self) -> str:
        """The prompt without its markup, as judges read it."""
        return self.parsed.text if self.parsed else ""


@contextmanager
def timed(jobs: list[Job], name: str) -> Iterator[None]:
    """Share the time of a block evenly among the jobs that it served."""
    start = time.perf_counter()
    yield
    spent = (time.perf_counter() - start) / max(len(jobs), 1)
    for job in jobs:
        job.timings[name] = job.timings.get(name, 0.0) + spent
