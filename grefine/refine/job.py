"""One image on its way through the pipeline: what came in, what was found, and every candidate for what goes out."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError
from grefine.indicators.aq_map import parsed_prompt
from grefine.indicators.domain_check import DomainCheck
from grefine.indicators.readings import Readings
from grefine.refine.composite import changed_share
from grefine.refine.inputs import Picture, derive, image_seeds, pixel_digest
from grefine.types import AlignmentMap, Decision, ParsedPrompt, QualityMap, RefineResult, RepairPlan, Scores

_NOTHING = np.zeros((0, 0), np.float32)


@dataclass(frozen=True, kw_only=True)
class Job(RefineResult):
    """A result in the making; every step of the pipeline returns new jobs with what it found."""

    index: int
    picture: Picture
    parsed: ParsedPrompt | None
    own_seed: int
    """Mixed from the caller's seed, the pixels and the sample number."""
    user_mask: np.ndarray | None
    row: int
    """Which of the caller's images, prompts and embeddings is this job's."""
    foreign: str = ""
    """What stands before the reason of a picture that the pipeline does not know."""
    candidates: dict[str, np.ndarray] = field(default_factory=dict)
    """Pictures `(H, W, 3)` in 0..255 by name: original (uint8), repainted, both, restored (not yet rounded)."""
    base: str = "original"
    """The candidate that stage 2 builds on."""
    latents: tuple[Tensor, ...] = ()
    """What the last stage that ran made of this image's crops, before anything was put back."""

    quality: QualityMap = QualityMap(_NOTHING, 0.0)
    alignment: AlignmentMap = AlignmentMap(_NOTHING, None)
    plan: RepairPlan = RepairPlan(_NOTHING.astype(bool), (), "")
    before: Scores = Scores({})
    after: Scores = Scores({})
    decision: Decision = Decision("original", "", guarded=False)
    timings: dict[str, float] = field(default_factory=dict)
    """Filled while the job goes from step to step."""

    @property
    def pixels(self) -> np.ndarray:
        """The original."""
        return self.picture.pixels

    @property
    def current(self) -> np.ndarray:
        """What stage 2 builds on: the repainted picture where it was not rejected, or the original."""
        return self.candidates.get(self.base, self.pixels)

    @property
    def restored(self) -> str:
        """The name of the candidate that stage 2 makes."""
        return "both" if self.base == "repainted" else "restored"

    @property
    def output(self) -> np.ndarray:
        """The candidate that was kept."""
        return self.candidates.get(self.decision.kept, self.pixels)

    @property
    def text(self) -> str:
        """The prompt without its markup, as judges read it."""
        return self.parsed.text if self.parsed else ""

    @property
    def result(self) -> RefineResult:
        """The record of everything that is known about the image."""
        known: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(RefineResult)}
        known["moved"] = changed_share(self.pixels, self.output)
        known |= {"forced": bool(self.foreign), "timings": dict(self.timings)}
        return RefineResult(**known)


def open_jobs(
    pictures: Sequence[Picture],
    prompts: Sequence[str],
    masks: Sequence[np.ndarray | None],
    samples: int,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    domain: DomainCheck | None = None,
    readings: Readings = Readings(),
) -> list[Job]:
    """Return one job per image and sample."""
    if samples < 1:
        raise ConfigError(f"num_images_per_prompt must be at least 1, not {samples}.")
    count = len(pictures) * samples
    if isinstance(generator, (list, tuple)) and len(generator) == len(pictures):
        seeds = [seed for seed in image_seeds(generator, len(pictures)) for _ in range(samples)]
    else:
        seeds = image_seeds(generator, count)
    parsed = {text: parsed_prompt(text, readings) if text.strip() else None for text in dict.fromkeys(prompts)}
    jobs = []
    for index, (drawn, given) in enumerate(seeds):
        row, sample = divmod(index, samples)
        picture = pictures[row]
        foreign = domain is not None and domain.is_foreign(Image.fromarray(picture.pixels))
        job = Job(
            index=index,
            picture=picture,
            prompt=prompts[row],
            parsed=parsed[prompts[row]],
            own_seed=derive(drawn, pixel_digest(picture.pixels).hex(), sample),
            seed=given,
            user_mask=masks[row],
            row=row,
            foreign=domain.forced if domain is not None and foreign else "",
            candidates={"original": picture.pixels},
        )
        jobs.append(job)
    return jobs


@contextmanager
def timed(jobs: Sequence[Job], name: str) -> Iterator[None]:
    """Share the time of a block evenly among the jobs that it served."""
    start = time.perf_counter()
    yield
    spent = (time.perf_counter() - start) / max(len(jobs), 1)
    for job in jobs:
        job.timings[name] = job.timings.get(name, 0.0) + spent
