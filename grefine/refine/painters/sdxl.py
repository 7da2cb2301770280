"""The pipeline's own UNet as painter, for both stages: our denoising loop, over parts that are SDXL's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from grefine.errors import ConfigError
from grefine.refine.composite import resize, resize_mask, to_pixels, to_tensor
from grefine.refine.denoise import CropBatch, decode, denoise, finished, snap_mask
from grefine.refine.encode import Embeddings, GivenEmbeddings
from grefine.refine.guidance import Steering
from grefine.refine.painters.protocol import CropJob, Painted, Painter
from grefine.types import Weights

LATENTS = 4
"""Channels of SDXL's latents."""


@dataclass(frozen=True, kw_only=True)
class SDXLPainter(Painter):
    """The pipeline's own UNet, its words encoded by both text encoders."""

    name: str = "SDXL"
    pipe: Any
    guided: bool
    """Whether the negative half of the words is needed."""
    given: GivenEmbeddings
    """A caller's own, in place of prompts."""
    lora_scale: float | None
    clip_skip: int | None
    control: bool = False
    steer: Callable[[Mapping[str, float], Sequence[str]], Steering]
    """Makes what steers a batch, given its plans' preferences and the whole prompt of each of its crops."""
    noise: Tensor | None
    unguided: float | None = 1.0
    known: dict[tuple[int, str, Weights], Embeddings] = field(default_factory=dict)
    """Equal words are encoded once in a call."""

    def told(self, crop: CropJob) -> Embeddings:
        """Return a crop's words as embeddings, with weights by character range."""
        row, key = crop.job.row, (crop.job.row, crop.prompt, crop.weights)
        if key not in self.known:
            prompt, negative, pooled, negative_pooled = (
                None if rows is None else rows[row : row + 1] for rows in self.given
            )
            found = self.pipe.encode_prompt(
                crop.prompt if prompt is None else None,
                do_classifier_free_guidance=self.guided,
                negative_prompt=self.painting.negative_of(crop.job),
                prompt_embeds=prompt,
                negative_prompt_embeds=negative,
                pooled_prompt_embeds=pooled,
                negative_pooled_prompt_embeds=negative_pooled,
                lora_scale=self.lora_scale,
                clip_skip=self.clip_skip,
                weights=[crop.weights],
            )
            self.known[key] = Embeddings(found[0], found[2], found[1], found[3])
        return self.known[key]

    def key(self, crop: CropJob) -> Any:
        """Crops of equal size, strength, text length and preferences are denoised together."""
        words = self.told(crop).prompt.shape[1:]
        likes = tuple(sorted(crop.job.plan.guidance.items()))
        return crop.size, crop.strength, words, crop.source_visible, crop.repair_in_place, likes

    def draw(self, crops: Sequence[CropJob]) -> list[Painted]:
        """Denoise crops and decode them."""
        height, width = crops[0].size
        images = torch.stack([to_tensor(resize(crop.pixels, height, width)) for crop in crops])
        masks = torch.stack([torch.from_numpy(resize_mask(crop.mask, height, width)).float()[None] for crop in crops])
        in_place, likes = crops[0].repair_in_place, crops[0].job.plan.guidance
        given = CropBatch(
            images=images * 2 - 1,
            masks=snap_mask(masks, self.pipe.vae_scale_factor),
            embeddings=Embeddings.stack([self.told(crop) for crop in crops]),
            strength=crops[0].strength,
            steps=self.traits.steps_for(self.painting.steps, in_place),
            seeds=[crop.seed for crop in crops],
            stage=self.painting.stage,
            source_visible=crops[0].source_visible,
            steps_mode=self.traits.steps_mode,
            guidance=1.0 if in_place else self.painting.guidance,
            control=self.control,
            steering=self.steer(likes, [crop.job.text for crop in crops]) if likes else None,
            noise=None if self.noise is None else torch.cat([self.noise[crop.job.row][None] for crop in crops]),
        )
        latents = denoise(self.pipe, given, self.painting.watch)
        pictures = decode(self.pipe, latents)
        if self.pipe.finisher is not None and crops[0].repair_in_place:
            pictures = finished(self.pipe.finisher, pictures, given)
        drawn = zip(crops, pictures, latents.split(1), strict=True)
        return [Painted(resize(to_pixels(picture), *crop.mask.shape), one) for crop, picture, one in drawn]


def check_family(unet: Any, vae: Any, encoders: tuple[Any, Any], controlnet: Any) -> None:
    """Refuse parts that are not SDXL's or do not fit together; what a part does not say is not looked at."""
    if unet is None:
        return
    widths, reads = [_says(encoder, "hidden_size") for encoder in encoders], _says(unet, "cross_attention_dim")
    times, takes = _says(unet, "addition_time_embed_dim"), _says(unet, "projection_class_embeddings_input_dim")
    pooled = None if None in (times, takes) else takes - 6 * times
    facts = [
        ("The UNet's addition_embed_type", str(_says(unet, "addition_embed_type")), ["text_time"]),
        ("The UNet's input channels", unet.config.in_channels, [4, 9]),
        ("The VAE's channels of latents", _says(vae, "latent_channels"), [LATENTS]),
        ("The text encoders' values per word", None if None in widths else sum(widths), [reads]),
        ("text_encoder_2's values for a whole prompt", _says(encoders[1], "projection_dim"), [pooled]),
        *(
            (f"The ControlNet's {name}", _says(controlnet, name), [_says(unet, name)])
            for name in ("cross_attention_dim", "block_out_channels", "addition_embed_type")
        ),
    ]
    for what, found, wanted in facts:
        if None not in (found, *wanted) and type(found) is type(wanted[0]) and found not in wanted:
            raise ConfigError(
                f"{what}: {found} where {' or '.join(map(str, wanted))} is needed, so it is another model's (Stable "
                "Diffusion 1 or 2?): load an SDXL checkpoint, all parts of one."
            )


def _says(part: Any, name: str) -> Any:
    """Return what a part's config says; None where there is no part, or it says nothing."""
    value = getattr(getattr(part, "config", None), name, None)
    return list(value) if isinstance(value, tuple) else value
