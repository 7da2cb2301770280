"""One image on its way through the pipeline: what came in, what was found, and every candidate for what goes out."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError
from grefine.indicators.aq_map import parsed_prompt
from grefine.indicators.domain_check import DomainCheck
from grefine.indicators.readings import Readings
from grefine.refine.composite import changed_share, rounded, to_tensor
from grefine.refine.guard import Panel, decide
from grefine.refine.inputs import Picture, derive, image_seeds, pixel_digest
from grefine.refine.settings import RefineConfig
from grefine.refine.vae import encode_images
from grefine.types import AlignmentMap, Decision, Kept, ParsedPrompt, QualityMap, RefineResult, RepairPlan, Scores

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


def keep_best(jobs: Sequence[Job], panel: Panel, config: RefineConfig, plan_only: bool) -> list[Job]:
    """Decide which candidate of every image is kept, and why."""
    several = [job for job in jobs if config.guard and len(job.candidates) > 1]
    with timed(several, "guard"):
        panel.look_ahead((list(job.candidates.values()), job.text) for job in several)
    return [_told(_decided(job, panel, config, plan_only), panel, config) for job in jobs]


def _decided(job: Job, panel: Panel, config: RefineConfig, plan_only: bool) -> Job:
    before = Scores({"p": job.quality.score} | ({} if job.alignment.score is None else {"a": job.alignment.score}))
    if len(job.candidates) == 1:
        lost = job.warnings[-1] if job.plan.regions and job.warnings else ""
        reason = "Only planned, as asked." if plan_only else job.plan.note or lost or "Nothing was to be repaired."
        if config.guard == "all" and not plan_only:
            with timed([job], "guard"):
                before = Scores(panel.score([job.pixels], job.text)[0])
        return replace(job, decision=Decision("original", reason, guarded=False), before=before, after=before)
    with timed([job], "guard"):
        if config.guard:
            decision, before, after = decide(panel, job.candidates, job.text, config)
            return replace(job, decision=decision, before=before, after=after)
        kept: Kept = list(job.candidates)[-1]  # type: ignore[assignment]
        (after,) = panel.own([Image.fromarray(rounded(job.candidates[kept]))], [job.text])
        reason = "The guard is off: the last candidate was kept unjudged."
        return replace(job, decision=Decision(kept, reason, guarded=False), before=before, after=Scores(after))


def _told(job: Job, panel: Panel, config: RefineConfig) -> Job:
    """Say beside the reason that a picture is foreign, who chose among several repaints, and who decided."""
    choosing = tuple(panel.choosing(job.text)) if max(job.drawn, default=1) > 1 else ()
    reason = f"{job.foreign} {job.decision.reason}"
    if choosing:
        counts = " and ".join(f"{job.drawn.count(n)} x {n}" for n in sorted(set(job.drawn), reverse=True))
        reason += f" {', '.join(choosing)} chose among the repaints (regions x tries: {counts})"
    if choosing and config.guard:
        names, _ = panel.deciding(job.decision.candidates.get("original", {}))
        maps = {"p": "the quality map (p)", "a": "the alignment map (a)"}  # for an axis that no judge covers
        deciders = dict.fromkeys(maps.get(name) or panel.specs[name].name for name in names)
        reason += f"; {', '.join(deciders) or 'nobody'} decided"
    reason += "." if choosing else ""
    return replace(job, choosing=choosing, decision=replace(job.decision, reason=reason.strip()))


def latents_of(jobs: Sequence[Job], pipe: Any) -> Tensor | list[Tensor]:
    """Return the latents of the last stage that ran, or of the image itself; a list where shapes differ."""
    found: list[Tensor] = []
    for job in jobs:
        if job.latents:
            found += job.latents
        else:
            found.append(encode_images(pipe.vae, to_tensor(job.pixels)[None] * 2 - 1, pipe._execution_device))
    return torch.cat(found) if len({v.shape for v in found}) == 1 else found
