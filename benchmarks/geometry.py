"""SDXL's geometry at any width, with random weights: speed does not depend on their values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from grefine import GRefinePipeline
from grefine.errors import ConfigError
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from lab.world.vocabulary import build_tokenizer

PARAMETERS = 3.6e9
"""UNet, VAE, both text encoders and the CLIP at full width."""
ACTIVATIONS = 9e9
"""Bytes that one pass at 1024² needs beside the weights at full width in two-byte numbers, generously."""


@dataclass(frozen=True)
class Geometry:
    """How wide the networks are and at which side they work."""

    width: float = 1.0
    side: int = 1024
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def channels(self, full: int, step: int = 32) -> int:
        """Return a full-width channel count at this width."""
        return max(step, round(full * self.width / step) * step)

    def needed(self) -> float:
        """Return about how many bytes the measurement takes; its largest picture has four working areas."""
        weights = PARAMETERS * self.width**2 * self.dtype.itemsize
        return weights + ACTIVATIONS * self.width * (self.side / 1024) ** 2 * self.dtype.itemsize / 2 * 4

    def check_memory(self, free: float) -> None:
        """Refuse a size that does not fit, and say which would."""
        if self.needed() <= free:
            return
        for width in (0.75, 0.5, 0.25, 0.1):
            for side in (self.side, 512, 256):
                smaller = Geometry(width, side, self.device, self.dtype)
                if width < self.width and side <= self.side and smaller.needed() <= free:
                    raise ConfigError(
                        f"Width {self.width:g} at {self.side}² takes about {self.needed() / 2**30:.0f} GB and "
                        f"{free / 2**30:.1f} GB are free on {self.device}: --width {width:g} --side {side} would fit."
                    )
        raise ConfigError(
            f"{free / 2**30:.1f} GB are free on {self.device}; nothing of this benchmark fits into that: it starts "
            f"at about {Geometry(0.1, 256, self.device, self.dtype).needed() / 2**30:.1f} GB."
        )


def free_memory(device: str) -> float:
    """Return how many bytes are free."""
    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(device)[0])
    listed = Path("/proc/meminfo")
    if not listed.is_file():
        return float("inf")
    found = dict(line.split(":") for line in listed.read_text().splitlines())
    return int(found["MemAvailable"].split()[0]) * 1024.0


def build(geometry: Geometry) -> GRefinePipeline:
    """Make a pipeline of this geometry, directly on its device and in its precision."""
    with made_on(geometry):
        words = build_tokenizer(77)
        first, second = geometry.channels(768, 64), geometry.channels(1280, 64)
        narrow = geometry.width < 1
        clip = ClipSurgery(
            **(SMALL_CLIP if narrow else {}) | {"vocab_size": len(words), "eos_token_id": words.eos_token_id}
        )
        pipe = GRefinePipeline(
            vae=vae(geometry),
            text_encoder=CLIPTextModel(_text(words, first, 12, geometry)),
            text_encoder_2=CLIPTextModelWithProjection(_text(words, second, 32, geometry)),
            tokenizer=words,
            tokenizer_2=build_tokenizer(77),
            unet=unet(geometry, first + second, second),
            scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            clip=clip,
            clip_tokenizer=words,
            pq_prompts=PQPrompts.from_clip(clip, words, n_ctx=16),
            working_size=geometry.side,
        )
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


SMALL_CLIP: dict[str, Any] = {
    "vision_layers": 6, "vision_width": 128, "vision_heads": 2, "text_width": 128, "text_layers": 3, "text_heads": 2,
    "embed_dim": 64,
}  # fmt: skip


def unet(geometry: Geometry, cross: int = 2048, pooled: int = 1280) -> UNet2DConditionModel:
    """Make SDXL's inpainting UNet."""
    base = geometry.channels(320)
    channels = (base, 2 * base, 4 * base)
    return UNet2DConditionModel(
        sample_size=geometry.side // 8,
        in_channels=9,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=tuple(max(1, c // 64) for c in channels),  # type: ignore[arg-type]
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        transformer_layers_per_block=(1, 2, 10),
        projection_class_embeddings_input_dim=6 * 256 + pooled,
        cross_attention_dim=cross,
    )


def vae(geometry: Geometry) -> AutoencoderKL:
    """Make SDXL's autoencoder, marked for upcasting as the published one is."""
    return AutoencoderKL(
        block_out_channels=tuple(geometry.channels(c) for c in (128, 256, 512, 512)),  # type: ignore[arg-type]
        down_block_types=("DownEncoderBlock2D",) * 4,  # type: ignore[arg-type]
        up_block_types=("UpDecoderBlock2D",) * 4,  # type: ignore[arg-type]
        layers_per_block=2,
        latent_channels=4,
        sample_size=geometry.side,
        scaling_factor=0.13025,
        force_upcast=True,
    )


def counted_refine(side: int) -> float:
    """Count the FLOPs of 10 guided and 10 plain steps with their VAE passes at full width, on the meta device."""
    return 30 * unet_flops(side) + vae_flops(side)


def unet_flops(side: int) -> float:
    """Count one row of one UNet call at full width."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        net = unet(Geometry(side=side))
        added = {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)}
        net(
            torch.zeros(1, 9, side // 8, side // 8), torch.zeros(()), torch.zeros(1, 77, 2048), added_cond_kwargs=added
        )
    return float(counter.get_total_flops())


def vae_flops(side: int) -> float:
    """Count both stages' VAE passes at full width: a picture and what is masked of it go in, one comes out."""
    with torch.device("meta"), torch.no_grad():
        net = vae(Geometry(side=side))
        with FlopCounterMode(display=False) as encoding:
            net.encode(torch.zeros(1, 3, side, side))
        with FlopCounterMode(display=False) as decoding:
            net.decode(torch.zeros(1, 4, side // 8, side // 8))
    return float(4 * encoding.get_total_flops() + 2 * decoding.get_total_flops())


def _text(words: Any, width: int, layers: int, geometry: Geometry) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=geometry.channels(1280, 64),
        num_hidden_layers=max(3, round(layers * geometry.width)),
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=77,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.eos_token_id,
    )


@contextmanager
def made_on(geometry: Geometry) -> Iterator[None]:
    """Make networks directly on the device and in the precision of a geometry, always the same."""
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(geometry.dtype)
    try:
        with torch.device(geometry.device):
            yield
    finally:
        torch.set_default_dtype(before)
