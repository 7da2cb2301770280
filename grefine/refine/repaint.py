"""Stage 1: repaint the planned regions, each at the model's working size, equal crops together. (Eq. 9, first line)"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from grefine.refine.composite import paste, resize, resize_mask
from grefine.refine.denoise import Backbone, Crops, Steering, Watch, decode, denoise, latent_multiple, snap_mask
from grefine.refine.emphasis import Weights, region_weights
from grefine.refine.encode import Embeddings, stack
from grefine.refine.fill import smooth_fill
from grefine.refine.job import Job
from grefine.refine.regions import working_size
from grefine.refine.seeds import derive
from grefine.refine.settings import RefineConfig
from grefine.types import RepairPlan

Encode = Callable[[Job, str, Weights], Embeddings]
"""The words of one crop: its job, its prompt, the weights of the prompt's characters."""


@dataclass
class Piece:
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
    shown: bool = False
    """The denoiser sees what lies under the mask."""
    mended: bool = False
    """It only looks bad and its damage is in sight: no words steer it, and few steps do."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What pieces must share to be denoised in one go."""
        return self.size, self.strength, self.embeddings.shape, self.shown, self.mended


class Repainter(Protocol):
    """Anything that can redraw crops under their masks."""

    def __call__(self, pieces: Sequence[Piece], stage: str) -> list[np.ndarray]:
        """Return one crop `(h, w, 3)` in 0..255 per piece, at the piece's own size."""
        ...


@dataclass
class SDXLRepainter:
    """The pipeline's own UNet as repainter, for both stages.

    `latents` keeps the last latents of each job and region, for callers who ask for latents instead of pictures.
    """

    pipe: Backbone
    config: RefineConfig
    watch: Watch
    steps: int
    guidance: float | None = None
    control: bool = False
    steer: Callable[[Sequence[str]], Steering] | None = None
    """Makes what steers a batch, given the whole prompt of each of its crops."""
    noise: Tensor | None = None
    room: float = math.inf
    """The pixels that a batch may hold."""
    latents: dict[tuple[int, int], Tensor] | None = None

    def __call__(self, pieces: Sequence[Piece], stage: str) -> list[np.ndarray]:
        """Denoise the pieces in batches of equal size, strength and text length."""
        done: dict[int, np.ndarray] = {}
        for batch in batches(pieces, self.config.batch_size, self.room):
            latents = denoise(self.pipe, self._crops([pieces[i] for i in batch], stage), self.watch)
            for row, index in enumerate(batch):
                piece = pieces[index]
                if self.latents is not None:
                    self.latents[id(piece.job), piece.index] = latents[row : row + 1]
                done[index] = resize(to_pixels(decode(self.pipe, latents[row : row + 1])[0]), *piece.mask.shape)
        return [done[index] for index in range(len(pieces))]

    def steps_for(self, mended: bool) -> int:
        """Return how many steps a piece takes; steering needs all of them."""
        return self.config.steps_for(self.steps, mended and self.steer is None)

    def _crops(self, pieces: Sequence[Piece], stage: str) -> Crops:
        height, width = pieces[0].size
        images = torch.stack([to_tensor(resize(piece.pixels, height, width)) for piece in pieces])
        masks = torch.stack(
            [torch.from_numpy(resize_mask(piece.mask, height, width)).float()[None] for piece in pieces]
        )
        return Crops(
            images=images * 2 - 1,
            masks=snap_mask(masks, self.pipe.vae_scale_factor),
            embeddings=stack([piece.embeddings for piece in pieces]),
            strength=pieces[0].strength,
            steps=self.steps_for(pieces[0].mended),
            seeds=[piece.seed for piece in pieces],
            stage=stage,
            shown=pieces[0].shown,
            steps_mode=self.config.steps_mode or "noise",
            guidance=self.config.restore_guidance_scale if pieces[0].mended else self.guidance,
            control=self.control,
            steering=None if self.steer is None else self.steer([piece.job.text for piece in pieces]),
            noise=None if self.noise is None else torch.cat([self.noise[piece.job.row][None] for piece in pieces]),
        )


def batches(pieces: Sequence[Piece], most: int, room: float = math.inf) -> list[list[int]]:
    """Group equal pieces into batches of at most `most` and `room` pixels; no piece is changed by its company."""
    order = sorted(range(len(pieces)), key=lambda index: repr(pieces[index].key))
    found = []
    for _, group in groupby(order, key=lambda index: pieces[index].key):
        members = list(group)
        limit = batch_limit(pieces[members[0]].size, most, room)
        found += [members[start : start + limit] for start in range(0, len(members), limit)]
    return found


def batch_limit(size: tuple[int, int], most: int, room: float) -> int:
    """Return how many pieces of a size are denoised at once."""
    return max(1, int(min(most, room // (size[0] * size[1]))))


def region_pieces(pipe: Backbone, job: Job, config: RefineConfig, working: int, encode: Encode) -> list[Piece]:
    """Cut the planned regions out of a picture, ready for the repainter."""
    multiple = latent_multiple(pipe)
    pieces = []
    for index, region in enumerate(job.plan.regions):
        left, top, right, bottom = region.box
        pixels = job.pixels[top:bottom, left:right]
        mended = bool(config.show_damage) and region.restores
        shown = mended or (bool(config.show_edited) and bool(region.phrases))
        missing = region.kind == "noun" or any(job.alignment.phrases[i].defect == "noun" for i in region.phrases)
        if missing and not shown and config.fill == "smooth":
            pixels = smooth_fill(pixels, region.mask)
        weights = region_weights(region, job.plan, config.emphasis)
        pieces.append(
            Piece(
                job,
                index,
                pixels,
                region.mask,
                working_size(bottom - top, right - left, working, multiple),
                region.prompt,
                encode(job, region.prompt, weights),
                region.strength,
                derive(job.seed, "repaint", *region.box),
                shown,
                mended=mended,
            )
        )
    return pieces


def composite_regions(
    image: np.ndarray, plan: RepairPlan, repaints: Sequence[np.ndarray], accepted: Sequence[int], config: RefineConfig
) -> np.ndarray:
    """Paste the accepted regions' repaints into the picture; all other pixels stay bit-identical."""
    result = image
    for index in accepted:
        region = plan.regions[index]
        # Every crop was drawn from the original, so it is also blended against it, whatever lies below it now.
        least = (config.least_change or 0.0) if config.show_edited and region.phrases else 0.0
        pasted = paste(image, repaints[index], region.box, region.mask, config.feather, config.match_ring, least)
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
