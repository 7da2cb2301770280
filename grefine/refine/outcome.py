"""The last step: which candidate of every image is kept, and the latents behind it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from grefine.refine.composite import rounded, to_tensor
from grefine.refine.guard import Panel, decide
from grefine.refine.job import Job, timed
from grefine.refine.settings import RefineConfig
from grefine.refine.vae import encode_images
from grefine.types import Decision, Kept, Scores


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
