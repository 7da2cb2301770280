"""The pipeline's own UNet as painter, for both stages: our denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grefine.refine.composite import resize, resize_mask, to_pixels, to_tensor
from grefine.refine.denoise import Backbone, CropBatch, Steering, decode, denoise, snap_mask
from grefine.refine.encode import Embeddings, Words, stack
from grefine.refine.painters.protocol import CropJob, Painted, Painter


@dataclass(frozen=True, kw_only=True)
class SDXLPainter(Painter):
    """The pipeline's own UNet, its words encoded by both text encoders."""

    name: str = "SDXL"
    pipe: Backbone
    words: Words
    control: bool = False
    steer: Callable[[Mapping[str, float], Sequence[str]], Steering] | None = None
    """Makes what steers a batch, given its plans' preferences and the whole prompt of each of its crops."""
    noise: Tensor | None = None
    unguided: float | None = 1.0

    def key(self, crop: CropJob) -> Any:
        """Crops of equal size, strength, text length and preferences are denoised together."""
        words = self.words(crop.job, crop.prompt, crop.weights).shape
        likes = tuple(sorted(crop.job.plan.guidance.items()))
        return crop.size, crop.strength, words, crop.source_visible, crop.repair_in_place, likes

    def draw(self, crops: Sequence[CropJob], stage: str) -> list[Painted]:
        """Denoise crops and decode them one by one."""
        words = stack([self.words(crop.job, crop.prompt, crop.weights) for crop in crops])
        latents = denoise(self.pipe, self._batch(crops, words, stage), self.painting.watch)
        done = []
        for crop, one in zip(crops, latents.split(1), strict=True):
            pixels = to_pixels(decode(self.pipe, one)[0])
            done.append(Painted(resize(pixels, *crop.mask.shape), one))
        return done

    def _batch(self, crops: Sequence[CropJob], words: Embeddings, stage: str) -> CropBatch:
        height, width = crops[0].size
        images = torch.stack([to_tensor(resize(crop.pixels, height, width)) for crop in crops])
        masks = torch.stack([torch.from_numpy(resize_mask(crop.mask, height, width)).float()[None] for crop in crops])
        in_place, likes = crops[0].repair_in_place, crops[0].job.plan.guidance
        return CropBatch(
            images=images * 2 - 1,
            masks=snap_mask(masks, self.pipe.vae_scale_factor),
            embeddings=words,
            strength=crops[0].strength,
            steps=self.traits.steps_for(self.painting.steps, in_place),
            seeds=[crop.seed for crop in crops],
            stage=stage,
            source_visible=crops[0].source_visible,
            steps_mode=self.traits.steps_mode,
            guidance=1.0 if in_place else self.painting.guidance,
            control=self.control,
            steering=self.steer(likes, [crop.job.text for crop in crops]) if self.steer and likes else None,
            noise=None if self.noise is None else torch.cat([self.noise[crop.job.row][None] for crop in crops]),
        )
