"""Stage 1: repaint the planned regions, each at the model's working size, equal crops together. (Eq. 9, first line)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from grefine.refine.candidates import Chooser, Taken, draw_tries
from grefine.refine.composite import paste, rounded, smooth_fill
from grefine.refine.emphasis import region_weights
from grefine.refine.guard import Panel, reject_regions
from grefine.refine.job import Job, timed
from grefine.refine.painters.protocol import CropJob, Painter
from grefine.refine.regions import working_size
from grefine.refine.seeds import derive
from grefine.refine.settings import RefineConfig, UNetTraits
from grefine.types import Region, RepairPlan

FEATHER = 0.25
"""Share of a mask's thickness over which a repaint fades in, inside the mask only."""


def repaint_regions(
    jobs: Sequence[Job], painter: Painter, panel: Panel, config: RefineConfig, chooser: Chooser
) -> list[Job]:
    """Stage 1: redraw the planned regions of every image and put back those that the guard does not reject."""
    traits = painter.traits

    def pasted(crop: CropJob, repaint: np.ndarray) -> np.ndarray:
        job = crop.job
        repaints = {crop.index: repaint}
        return composite_regions(job.pixels, job.plan, repaints, [crop.index], not config.literal, traits)

    if not config.stage1:
        return list(jobs)
    todo = [job for job in jobs if job.plan.regions]
    with timed(todo, "repaint"):
        crops = [crop for job in todo for crop in region_crops(job, painter, config)]
        taken = draw_tries(crops, painter, chooser, pasted)
    own: dict[int, list[Taken]] = {job.index: [] for job in jobs}
    for crop, result in zip(crops, taken, strict=True):
        own[crop.job.index].append(result)
    return [_put_back(job, own[job.index], panel, config, traits) if own[job.index] else job for job in jobs]


def _put_back(job: Job, taken: Sequence[Taken], panel: Panel, config: RefineConfig, traits: UNetTraits) -> Job:
    """Add the picture with those repaints that came back whole and lower nothing by themselves."""
    painted = [one.painted for one in taken]
    pixels = {index: one.pixels for index, one in enumerate(painted)}
    job = replace(job, drawn=tuple(one.drawn for one in taken))

    def composite(accepted: Sequence[int]) -> np.ndarray:
        return composite_regions(job.pixels, job.plan, pixels, accepted, not config.literal, traits)

    accepted, notes = list(range(len(painted))), []
    lost = [f"Region {index + 1} was left as it was: {one.lost}" for index, one in enumerate(painted) if one.lost]
    if len(lost) == len(painted):
        return replace(job, warnings=(*job.warnings, *lost))
    with timed([job], "guard"):
        if config.guard and len(painted) > 1:
            singles = (_with_one(job, index, pixels[index], not config.literal, traits) for index in accepted)
            boxes = [region.box for region in job.plan.regions]
            accepted, notes = reject_regions(panel, job.pixels, singles, boxes, job.text, config)
        repainted = composite([index for index in accepted if not painted[index].lost])
    return replace(
        job,
        candidates=job.candidates | {"repainted": repainted},
        latents=tuple(one.latents for one in painted if one.latents is not None),
        warnings=(*job.warnings, *lost, *notes),
    )


def region_crops(job: Job, painter: Painter, config: RefineConfig) -> list[CropJob]:
    """Cut the planned regions out of a picture, ready for the painter."""
    traits = painter.traits
    crops = []
    for index, region in enumerate(job.plan.regions):
        left, top, right, bottom = region.box
        pixels = job.pixels[top:bottom, left:right]
        in_place = traits.damage and region.is_restoration
        visible = in_place or painter.sees_source or (traits.edited and bool(region.phrases))
        missing = region.kind == "noun" or any(job.alignment.phrases[i].defect == "noun" for i in region.phrases)
        if missing and not visible and not config.literal:
            pixels = smooth_fill(pixels, region.mask)
        crops.append(
            CropJob(
                job,
                index,
                pixels,
                region.mask,
                working_size(bottom - top, right - left, painter.side, painter.multiple),
                region.prompt,
                region.strength,
                derive(job.seed, "repaint", *region.box),
                region_weights(region, job.plan, config.emphasis),
                visible,
                in_place,
            )
        )
    return crops


def composite_regions(
    image: np.ndarray,
    plan: RepairPlan,
    repaints: Mapping[int, np.ndarray],
    accepted: Sequence[int],
    match_ring: bool,
    traits: UNetTraits,
) -> np.ndarray:
    """Paste the accepted regions' repaints into the picture; all other pixels stay bit-identical."""
    result = image.astype(np.float32) if accepted else image
    for index in accepted:
        region = plan.regions[index]
        left, top, right, bottom = region.box
        # Every crop was drawn from the original, so it is also blended against it, whatever lies below it now.
        pasted = _pasted(image, region, repaints[index], match_ring, traits)
        result[top:bottom, left:right][region.mask] = pasted[region.mask]
    return result


def _pasted(
    image: np.ndarray, region: Region, repaint: np.ndarray, match_ring: bool, traits: UNetTraits
) -> np.ndarray:
    """Return a region's crop of the picture with its repaint blended in, not rounded."""
    left, top, right, bottom = region.box
    least = traits.least_change if traits.edited and region.phrases else 0.0
    whole = (0, 0, right - left, bottom - top)
    return paste(image[top:bottom, left:right], repaint, whole, region.mask, FEATHER, match_ring, least)


def _with_one(job: Job, index: int, repaint: np.ndarray, match_ring: bool, traits: UNetTraits) -> np.ndarray:
    """Return the picture in 8 bits with one region repainted, as judges see it."""
    region, picture = job.plan.regions[index], job.pixels.copy()
    left, top, right, bottom = region.box
    picture[top:bottom, left:right] = rounded(_pasted(picture, region, repaint, match_ring, traits))
    return picture
