"""Stage 1: repaint the planned regions, each at the model's working size, equal crops together. (Eq. 9, first line)"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grefine.refine.candidates import Chooser, draw_tries
from grefine.refine.composite import paste, rounded, smooth_fill
from grefine.refine.guard import Panel, reject_regions
from grefine.refine.inputs import derive
from grefine.refine.job import Job, timed
from grefine.refine.painters.protocol import CropJob, Painted, Painter
from grefine.refine.regions import working_size
from grefine.refine.settings import RefineConfig, UNetTraits
from grefine.types import Region, RepairPlan, Weights

FEATHER = 0.25
"""Share of a mask's thickness over which a repaint fades in, inside the mask only."""


def repaint_regions(
    jobs: Sequence[Job], painter: Painter, panel: Panel, config: RefineConfig, chooser: Chooser
) -> list[Job]:
    """Stage 1: redraw the planned regions of every image and put back those that the guard does not reject."""
    if not config.stage1:
        return list(jobs)

    def with_one(crop: CropJob, pixels: np.ndarray) -> np.ndarray:
        return _with_one(crop.job, crop.index, pixels, config, painter.traits)

    todo = [job for job in jobs if job.plan.regions]
    with timed(todo, "repaint"):
        crops = [crop for job in todo for crop in region_crops(job, painter, config)]
        painted = iter(draw_tries(crops, painter, chooser, with_one))
    own = [[next(painted) for _ in job.plan.regions] for job in jobs]
    return [
        _put_back(job, taken, panel, config, painter.traits) if taken else job
        for job, taken in zip(jobs, own, strict=True)
    ]


def region_crops(job: Job, painter: Painter, config: RefineConfig) -> list[CropJob]:
    """Cut the planned regions out of a picture, ready for the painter."""
    traits = painter.traits
    crops = []
    for index, region in enumerate(job.plan.regions):
        pixels = job.pixels[region.place]
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
                working_size(*region.mask.shape, painter.side, painter.multiple),
                region.prompt,
                region.strength,
                derive(job.own_seed, "repaint", *region.box),
                region_weights(region, job.plan, config.emphasis),
                visible,
                in_place,
            )
        )
    return crops


def region_weights(region: Region, plan: RepairPlan, emphasis: float) -> Weights:
    """Return the weights of a region's prompt: the caption's own, moved behind what stands before it."""
    offset = len(region.prompt) - len(plan.prompt)
    if offset < 0 or not region.prompt.endswith(plan.prompt):
        return ()
    moved = tuple((start + offset, end + offset, weight) for start, end, weight in plan.token_weights)
    if offset and region.phrases and emphasis:
        return ((0, offset, 1.0 + emphasis), *moved)
    return moved


def _put_back(job: Job, painted: Sequence[Painted], panel: Panel, config: RefineConfig, traits: UNetTraits) -> Job:
    """Add the picture with those repaints that came back whole and lower nothing by themselves."""
    job = replace(job, drawn=tuple(one.drawn for one in painted))
    lost = [f"Region {index + 1} was left as it was: {one.lost}" for index, one in enumerate(painted) if one.lost]
    if len(lost) == len(painted):
        return replace(job, warnings=(*job.warnings, *lost))
    accepted, notes = list(range(len(painted))), []
    with timed([job], "guard"):
        if config.guard and len(painted) > 1:
            singles = (_with_one(job, index, painted[index].pixels, config, traits) for index in accepted)
            boxes = [region.box for region in job.plan.regions]
            accepted, notes = reject_regions(panel, job.pixels, singles, boxes, job.text, config)
        accepted = [index for index in accepted if not painted[index].lost]
        repainted = job.pixels.astype(np.float32) if accepted else job.pixels
        for index in accepted:
            region = job.plan.regions[index]
            # Every crop was drawn from the original, so it is also blended against it, whatever lies below it now.
            pasted = _pasted(job, region, painted[index].pixels, config, traits)
            repainted[region.place][region.mask] = pasted[region.mask]
    return replace(
        job,
        candidates=job.candidates | {"repainted": repainted},
        latents=tuple(one.latents for one in painted if one.latents is not None),
        warnings=(*job.warnings, *lost, *notes),
    )


def _pasted(job: Job, region: Region, repaint: np.ndarray, config: RefineConfig, traits: UNetTraits) -> np.ndarray:
    """Return a region's crop of the picture with its repaint blended in, not rounded."""
    least = traits.least_change if traits.edited and region.phrases else 0.0
    old = job.pixels[region.place]
    return paste(old, repaint, region.mask, FEATHER, match_ring=not config.literal, least_change=least)


def _with_one(job: Job, index: int, repaint: np.ndarray, config: RefineConfig, traits: UNetTraits) -> np.ndarray:
    """Return the picture in 8 bits with one region repainted, as judges see it."""
    region, picture = job.plan.regions[index], job.pixels.copy()
    picture[region.place] = rounded(_pasted(job, region, repaint, config, traits))
    return picture
