"""Both stages: the planned regions as crops, then a mild restoration of the whole, by the same painters. (Eq. 9)"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from grefine.errors import ConfigError, ImageError, nearest
from grefine.refine.candidates import Chooser, draw_tries
from grefine.refine.composite import (
    fade_out,
    join_tiles,
    local_change,
    match_low_frequencies,
    paste,
    rounded,
    smooth_fill,
)
from grefine.refine.guard import Panel, decide, reject_regions
from grefine.refine.inputs import derive
from grefine.refine.job import Job, timed
from grefine.refine.maps import MapDrawer
from grefine.refine.painters.protocol import CropJob, Painted, Painter
from grefine.refine.painters.sdxl import SDXLPainter
from grefine.refine.plan import with_overrides
from grefine.refine.regions import tile_boxes, working_size
from grefine.refine.settings import RefineConfig, UNetTraits
from grefine.scorers.noise import INVISIBLE
from grefine.types import Box, Region, RepairPlan, Weights, place_of

FEATHER = 0.25
"""Share of a mask's thickness over which a repaint fades in, inside the mask only."""
RESTORERS = ("inpaint", "controlnet-tile", "refiner", "none")
Restore = Callable[..., Image.Image]
"""`restore(image, prompt=..., strength=..., generator=...) -> image`: your own stage 2."""
VISIBLE = 10 ** (-INVISIBLE / 20)
"""Root-mean-square change round a pixel (0..1) that can be seen."""


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
    pairs = zip(jobs, own, strict=True)
    return [_put_back(job, taken, panel, config, painter.traits) if taken else job for job, taken in pairs]


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
        size = working_size(*region.mask.shape, painter.side, painter.multiple)
        seed, weights = derive(job.own_seed, "repaint", *region.box), region_weights(region, job.plan, config.emphasis)
        told = (region.prompt, region.strength, seed, weights)
        crops.append(CropJob(job, index, pixels, region.mask, size, *told, visible, in_place))
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


@dataclass(frozen=True, kw_only=True)
class CallableRestorer(Painter):
    """Anyone's function as stage 2: it knows nothing of steps, and sees one picture after the other as it is."""

    function: Restore
    sees_source: bool = True

    def draw(self, crops: Sequence[CropJob]) -> list[Painted]:
        """Hand over one picture after the other."""
        done = []
        for crop in crops:
            generator = torch.Generator().manual_seed(crop.seed)
            given = Image.fromarray(rounded(crop.pixels))
            image = self.function(given, prompt=crop.prompt, strength=crop.strength, generator=generator)
            if not isinstance(image, Image.Image) or image.size != crop.mask.shape[::-1]:
                what = image.size if isinstance(image, Image.Image) else type(image).__name__
                raise ImageError(f"{self.name} returned {what} and not a PIL image of {crop.mask.shape[::-1]}.")
            done.append(Painted(np.asarray(image.convert("RGB"))))
        return done


def choose_restorer(
    chosen: str | Restore | Painter, painter: Painter, sdxl: SDXLPainter | None, refiner: Any, steps: int
) -> Painter | None:
    """Return stage 2 as a name, a painter or a callable means it; `refiner` is a loaded pipeline or None."""
    if isinstance(chosen, Painter):
        return chosen
    own = {"side": painter.side, "multiple": painter.multiple}
    if callable(chosen):
        return CallableRestorer(function=chosen, name="your restorer", **own)
    if chosen == "none":
        return None
    if chosen == "inpaint":
        return painter
    if chosen == "controlnet-tile":
        if sdxl is None or sdxl.pipe.controlnet is None:
            raise ConfigError("restorer 'controlnet-tile' needs the component controlnet: load with `controlnet=...`.")
        return replace(sdxl, control=True)
    if chosen == "refiner":
        if refiner is None:
            raise ConfigError("restorer 'refiner' needs a refiner: give one to `pipe.use_refiner(...)` first.")

        def refine(image: Image.Image, prompt: str, strength: float, generator: torch.Generator) -> Image.Image:
            asked = {"strength": strength, "num_inference_steps": math.ceil(steps / strength - 1e-9)}
            output = refiner(prompt=prompt, image=image, generator=generator, **asked)
            return output.images[0].resize(image.size, Image.Resampling.LANCZOS)

        return CallableRestorer(function=refine, name="the SDXL refiner", **own)
    raise ConfigError(f"Unknown restorer '{chosen}': choose {', '.join(RESTORERS)}{nearest(chosen, RESTORERS)}")


def restore_pictures(
    jobs: Sequence[Job], restorer: Painter | None, maps: MapDrawer, panel: Panel, config: RefineConfig
) -> list[Job]:
    """Stage 2: restore mildly what stage 1 left, or the original where stage 1 was skipped or turned down."""
    if restorer is None:
        return list(jobs)
    repainted = [job for job in jobs if "repainted" in job.candidates]
    if config.guard:
        with timed(repainted, "guard"):
            panel.look_ahead((list(job.candidates.values()), job.text) for job in repainted)
    based = {job.index: job for job in jobs}
    for job in repainted:
        with timed([job], "guard"):
            if not config.guard or decide(panel, job.candidates, job.text, config)[0].kept == "repainted":
                based[job.index] = replace(job, base="repainted")
    todo = [job for job in based.values() if _is_restored(job, config)]
    with timed(todo, "restore"):
        done = _restore(todo, restorer, config)
        if config.preserve == "paper" and not config.literal:
            done = _spare(done, maps, config)
    return list((based | {job.index: job for job in done}).values())


def _is_restored(job: Job, config: RefineConfig) -> bool:
    """Whether there is something to mend; a restoration alone does not draw what a phrase asks for."""
    regions = job.plan.regions
    asked = bool(regions) and not any(region.is_restoration or region.kind == "user" for region in regions)
    looks_bad = not (asked and config.stage1 and config.gated)
    return (job.plan.restore or not config.gated) and (job.base == "repainted" or looks_bad)


def _restore(jobs: Sequence[Job], restorer: Painter, config: RefineConfig) -> list[Job]:
    """Redraw the repaired places, or the whole pictures in one tile or more, and add what became of them."""
    exact, in_sight = config.preserve == "exact", restorer.traits.damage
    crops: list[list[CropJob]] = []
    boxes: list[list[Box]] = []
    for job in jobs:
        tiles = [] if exact else tile_boxes(*job.pixels.shape[:2], restorer.side, restorer.multiple)
        boxes.append([region.box for region in job.plan.regions] if exact else tiles)
        words = restorer.phrasing.whole(job.plan.prompt)
        weights = job.plan.token_weights if words == job.plan.prompt else ()
        crops.append([])
        for box in boxes[-1]:
            pixels = job.current[place_of(box)]
            mask = np.ones(pixels.shape[:2], dtype=bool)
            size = working_size(*mask.shape, restorer.side, restorer.multiple)
            told = (words, config.delta, derive(job.own_seed, "restore", *box), weights)
            crops[-1].append(CropJob(job, 0, pixels, mask, size, *told, in_sight, in_sight))
    painted = iter(restorer([crop for own in crops for crop in own]))
    tile = None if exact else restorer.side
    every = zip(jobs, boxes, crops, strict=True)
    return [_joined(job, views, own, [next(painted) for _ in own], tile) for job, views, own in every]


def _joined(
    job: Job, boxes: Sequence[Box], crops: Sequence[CropJob], painted: Sequence[Painted], tile: int | None
) -> Job:
    """Add what became of a picture's crops; of tiles as one picture, of repaired places inside the mask only."""
    lost = tuple(dict.fromkeys(f"Stage 2 left a place as it was: {one.lost}" for one in painted if one.lost))
    job = replace(job, warnings=(*job.warnings, *lost))
    if all(one.lost for one in painted):
        return job
    # Tiles of one picture must not drift apart, however large they are.
    side = tile if len(crops) > 1 else None
    matched = [match_low_frequencies(one.pixels, crop.pixels, side) for one, crop in zip(painted, crops, strict=True)]
    if tile is not None:
        pixels = join_tiles(job.pixels.shape, list(zip(boxes, matched, strict=True)))
    else:
        pixels = job.current.astype(np.float32)
        for crop, region in zip(matched, job.plan.regions, strict=True):
            pixels[region.place] = paste(pixels[region.place], crop, region.mask, FEATHER, match_ring=False)
    latents = tuple(one.latents for one in painted if one.latents is not None) or job.latents
    return replace(job, candidates=job.candidates | {job.restored: pixels}, latents=latents)


def _spare(jobs: Sequence[Job], maps: MapDrawer, config: RefineConfig) -> list[Job]:
    """Give restored pictures their old pixels back wherever a good place was not made better, without a seam.

    That is where quality fell by more than noise, or a change is seen and it did not rise, or no map can tell.
    """
    restored = [job for job in jobs if job.restored in job.candidates]
    pictures = [Image.fromarray(rounded(job.candidates[job.restored])) for job in restored]
    qualities = (maps.qualities(pictures) if pictures else None) or [None] * len(pictures)
    threshold, noise = with_overrides(maps.calibration, config).mask_threshold, config.guard_resolution or 0.0
    spared = {job.index: job for job in jobs}
    for job, after in zip(restored, qualities, strict=True):
        pixels = job.candidates[job.restored]
        good = ~job.plan.mask & (1.0 - job.quality.values <= threshold)
        gain = np.zeros(good.shape) if after is None else after.values - job.quality.values
        seen = local_change(job.current, pixels) > VISIBLE
        harmed = good & ((gain < -noise) | (seen & (gain <= noise)))
        weight = fade_out(harmed)[..., None]
        blended = (1.0 - weight) * pixels + weight * job.current
        kept = np.where(harmed[..., None], job.current, blended).astype(np.float32)
        spared[job.index] = replace(job, candidates=job.candidates | {job.restored: kept})
    return list(spared.values())
