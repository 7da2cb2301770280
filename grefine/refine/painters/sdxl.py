"""The pipeline's own UNet as painter, for both stages: our denoising loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from grefine.refine.composite import resize, resize_mask, to_pixels, to_tensor
from grefine.refine.denoise import Backbone, CropBatch, Steering, decode, denoise, finished, latent_multiple, snap_mask
from grefine.refine.encode import Embeddings, stack
from grefine.refine.painters.phrasing import Phrasing
from grefine.refine.painters.protocol import CropJob, Painted, Painting, batches
from grefine.refine.settings import UNetTraits
from grefine.refine.words import Words


@dataclass(frozen=True)
class SDXLPainter:
    """The pipeline's own UNet, its words encoded by both text encoders."""

    pipe: Backbone
    painting: Painting
    words: Words
    side: int
    traits: UNetTraits
    control: bool = False
    steer: Callable[[Mapping[str, float], Sequence[str]], Steering] | None = None
    """Makes what steers a batch, given its plans' preferences and the whole prompt of each of its crops."""
    noise: Tensor | None = None
    name: str = "SDXL"
    sees_source: bool = False
    phrasing: Phrasing = field(default_factory=Phrasing)

    @property
    def multiple(self) -> int:
        """What sides of crops are multiples of."""
        return latent_multiple(self.pipe)

    def at(self, painting: Painting) -> Self:
        """Return it ready for a stage of a call."""
        return replace(self, painting=painting)

    def __call__(self, crops: Sequence[CropJob], stage: str) -> list[Painted]:
        """Denoise the crops in batches of equal size, strength and text length."""
        told = [self.words(crop.job, crop.prompt, crop.weights) for crop in crops]
        keys = [
            (
                *(crop.size, crop.strength, words.shape, crop.source_visible, crop.repair_in_place),
                tuple(sorted(crop.job.plan.guidance.items())),
            )
            for crop, words in zip(crops, told, strict=True)
        ]
        asked = self.painting
        done: dict[int, Painted] = {}
        for batch in batches(keys, [crop.size for crop in crops], asked.batch_size, asked.max_batch_pixels):
            own, words = [crops[i] for i in batch], stack([told[i] for i in batch])
            given = self._batch(own, words, stage)
            latents = denoise(self.pipe, given, asked.watch)
            for row, index in enumerate(batch):
                at = slice(row, row + 1)
                drawn = decode(self.pipe, latents[at])
                if self.pipe.finisher is not None and crops[index].repair_in_place:
                    drawn = finished(self.pipe.finisher, drawn, given.images[at], given.masks[at])
                done[index] = Painted(resize(to_pixels(drawn[0]), *crops[index].mask.shape), latents[at])
        return [done[index] for index in range(len(crops))]

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
