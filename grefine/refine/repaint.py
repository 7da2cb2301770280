"""Stage 1: repaint the planned regions, each at the model's working size, equal crops together. (Eq. 9, first line)"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from grefine.refine.composite import paste, resize, resize_mask
from grefine.refine.denoise import Backbone, CropBatch, Steering, Watch, decode, denoise, latent_multiple, snap_mask
from grefine.refine.emphasis import Weights, region_weights
from grefine.refine.encode import Embeddings, stack
from grefine.refine.fill import smooth_fill
from grefine.refine.guard import Panel, reject_regions
from grefine.refine.job import Job, timed
from grefine.refine.regions import working_size
from grefine.refine.seeds import derive
from grefine.refine.settings import RefineConfig, UNetTraits
from grefine.types import RepairPlan

FEATHER = 0.25
"""Share of a mask's thickness over which a repaint fades in, inside the mask only."""
Encode = Callable[[Job, str, Weights], Embeddings]
"""The words of one crop: its job, its prompt, the weights of the prompt's characters."""


@dataclass(frozen=True)
class CropJob:
    """One crop to be denoised, and where it comes from."""

    job: Job
    index: int
    pixels: np.ndarray
    """`(h, w, 3)` in 0..255 at the picture's own scale."""
    mask: np.ndarray
    """`(h, w)` bool."""
    size: tuple[int, int]
    """Height and width that it is denoised at."""
    prompt: str
    embeddings: Embeddings
    strength: float
    seed: int
    source_visible: bool = False
    """The denoiser sees what lies under the mask."""
    repair_in_place: bool = False
    """It only looks bad and its damage is in sight: no words steer it, and few steps do."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What crops must share to be denoised in one go."""
        return self.size, self.strength, self.embeddings.shape, self.source_visible, self.repair_in_place


@dataclass(frozen=True)
class Painted:
    """What became of one crop."""

    pixels: np.ndarray
    """`(h, w, 3)` in 0..255 at the crop's own size."""
    latents: Tensor | None = None
    """What was decoded to them; None from a painter without latents."""


class Repainter(Protocol):
    """Anything that can redraw crops under their masks."""

    def __call__(self, crops: Sequence[CropJob], stage: str) -> list[Painted]:
        """Return what became of each crop."""
        ...


@dataclass(frozen=True)
class SDXLRepainter:
    """The pipeline's own UNet as repainter, for both stages."""

    pipe: Backbone
    watch: Watch
    steps: int
    batch_size: int
    traits: UNetTraits
    guidance: float | None = None
    control: bool = False
    steer: Callable[[Sequence[str]], Steering] | None = None
    """Makes what steers a batch, given the whole prompt of each of its crops."""
    noise: Tensor | None = None
    max_batch_pixels: float = math.inf

    def __call__(self, crops: Sequence[CropJob], stage: str) -> list[Painted]:
        """Denoise the crops in batches of equal size, strength and text length."""
        done: dict[int, Painted] = {}
        for batch in batches(crops, self.batch_size, self.max_batch_pixels):
            latents = denoise(self.pipe, self._batch([crops[i] for i in batch], stage), self.watch)
            for row, index in enumerate(batch):
                own = latents[row : row + 1]
                pixels = resize(to_pixels(decode(self.pipe, own)[0]), *crops[index].mask.shape)
                done[index] = Painted(pixels, own)
        return [done[index] for index in range(len(crops))]

    def _batch(self, crops: Sequence[CropJob], stage: str) -> CropBatch:
        height, width = crops[0].size
        images = torch.stack([to_tensor(resize(crop.pixels, height, width)) for crop in crops])
        masks = torch.stack([torch.from_numpy(resize_mask(crop.mask, height, width)).float()[None] for crop in crops])
        in_place = crops[0].repair_in_place
        return CropBatch(
            images=images * 2 - 1,
            masks=snap_mask(masks, self.pipe.vae_scale_factor),
            embeddings=stack([crop.embeddings for crop in crops]),
            strength=crops[0].strength,
            # Steering needs all of the steps.
            steps=self.traits.steps_for(self.steps, in_place and self.steer is None),
            seeds=[crop.seed for crop in crops],
            stage=stage,
            source_visible=crops[0].source_visible,
            steps_mode=self.traits.steps_mode,
            guidance=1.0 if in_place else self.guidance,
            control=self.control,
            steering=None if self.steer is None else self.steer([crop.job.text for crop in crops]),
            noise=None if self.noise is None else torch.cat([self.noise[crop.job.row][None] for crop in crops]),
        )


def repaint_regions(
    jobs: Sequence[Job],
    painter: SDXLRepainter,
    encode: Encode,
    panel: Panel,
    config: RefineConfig,
    working: int,
) -> list[Job]:
    """Stage 1: redraw the planned regions of every image and put back those that the guard does not reject."""
    if not config.stage1:
        return list(jobs)
    todo = [job for job in jobs if job.plan.regions]
    with timed(todo, "repaint"):
        crops = [crop for job in todo for crop in region_crops(job, painter, encode, config, working)]
        painted = painter(crops, "repaint")
    own: dict[int, list[Painted]] = {job.index: [] for job in jobs}
    for crop, result in zip(crops, painted, strict=True):
        own[crop.job.index].append(result)
    return [_put_back(job, own[job.index], panel, config, painter.traits) if own[job.index] else job for job in jobs]


def _put_back(job: Job, painted: Sequence[Painted], panel: Panel, config: RefineConfig, traits: UNetTraits) -> Job:
    """Add the picture with those repaints that lower nothing by themselves."""
    pixels = [one.pixels for one in painted]

    def composite(accepted: Sequence[int]) -> np.ndarray:
        return composite_regions(job.pixels, job.plan, pixels, accepted, not config.literal, traits)

    accepted, notes = list(range(len(painted))), []
    with timed([job], "guard"):
        if config.guard and len(painted) > 1:
            singles = (composite([index]) for index in accepted)
            accepted, notes = reject_regions(panel, job.pixels, singles, job.text, config)
        repainted = composite(accepted)
    return replace(
        job,
        candidates=job.candidates | {"repainted": repainted},
        latents=tuple(one.latents for one in painted if one.latents is not None),
        warnings=(*job.warnings, *notes),
    )


def batches(crops: Sequence[CropJob], most: int, max_batch_pixels: float = math.inf) -> list[list[int]]:
    """Group equal crops into batches of at most `most` and so many pixels; no crop is changed by its company."""
    order = sorted(range(len(crops)), key=lambda index: repr(crops[index].key))
    found = []
    for _, group in groupby(order, key=lambda index: crops[index].key):
        members = list(group)
        limit = batch_limit(crops[members[0]].size, most, max_batch_pixels)
        found += [members[start : start + limit] for start in range(0, len(members), limit)]
    return found


def batch_limit(size: tuple[int, int], most: int, max_batch_pixels: float) -> int:
    """Return how many crops of a size are denoised at once."""
    return max(1, int(min(most, max_batch_pixels // (size[0] * size[1]))))


def region_crops(
    job: Job, painter: SDXLRepainter, encode: Encode, config: RefineConfig, working: int
) -> list[CropJob]:
    """Cut the planned regions out of a picture, ready for the repainter."""
    multiple, traits = latent_multiple(painter.pipe), painter.traits
    crops = []
    for index, region in enumerate(job.plan.regions):
        left, top, right, bottom = region.box
        pixels = job.pixels[top:bottom, left:right]
        in_place = traits.damage and region.is_restoration
        visible = in_place or (traits.edited and bool(region.phrases))
        missing = region.kind == "noun" or any(job.alignment.phrases[i].defect == "noun" for i in region.phrases)
        if missing and not visible and not config.literal:
            pixels = smooth_fill(pixels, region.mask)
        weights = region_weights(region, job.plan, config.emphasis)
        crops.append(
            CropJob(
                job,
                index,
                pixels,
                region.mask,
                working_size(bottom - top, right - left, working, multiple),
                region.prompt,
                encode(job, region.prompt, weights),
                region.strength,
                derive(job.seed, "repaint", *region.box),
                visible,
                in_place,
            )
        )
    return crops


def composite_regions(
    image: np.ndarray,
    plan: RepairPlan,
    repaints: Sequence[np.ndarray],
    accepted: Sequence[int],
    match_ring: bool,
    traits: UNetTraits,
) -> np.ndarray:
    """Paste the accepted regions' repaints into the picture; all other pixels stay bit-identical."""
    result = image
    for index in accepted:
        region = plan.regions[index]
        # Every crop was drawn from the original, so it is also blended against it, whatever lies below it now.
        least = traits.least_change if traits.edited and region.phrases else 0.0
        pasted = paste(image, repaints[index], region.box, region.mask, FEATHER, match_ring, least)
        left, top, right, bottom = region.box
        place = np.zeros(image.shape[:2], dtype=bool)
        place[top:bottom, left:right] = region.mask
        result = np.where(place[..., None], pasted, result)
    return result


def to_tensor(image: np.ndarray) -> Tensor:
    """Return `(3, H, W)` float32 in 0..1 of a picture in 0..255."""
    return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255.0


def to_pixels(image: Tensor) -> np.ndarray:
    """Return `(H, W, 3)` in 0..255, not rounded."""
    return (image * 255).permute(1, 2, 0).numpy()
