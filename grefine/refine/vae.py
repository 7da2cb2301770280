"""Into the latents and back, in the precision that a VAE needs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from grefine.errors import ImageError

ROOM = 1024**2
"""Pixels that go through a VAE together: it takes gigabytes at this size, and more pictures at once are no faster."""

TILE, MARGIN = 64, 8
"""Latents per side that the decoder is differentiated through at a time, and what it sees round them."""


def encode_images(vae: Any, images: Tensor, device: torch.device) -> Tensor:
    """Encode `(B, 3, H, W)` in -1..1 as scaled latents: the mode of the posterior, so that nothing is drawn."""
    with _safe_precision(vae) as dtype:
        rows = max(1, ROOM // (images.shape[-2] * images.shape[-1]))
        parts = [
            vae.encode(part.to(device, dtype, memory_format=torch.channels_last)).latent_dist.mode()
            for part in images.split(rows)
        ]
        return _numbers(_shift(vae, torch.cat(parts), into=True), "VAE", dtype)


def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Decode scaled latents to `(B, 3, H, W)` around -1..1."""
    _numbers(latents, "denoiser", latents.dtype)
    with _safe_precision(vae) as dtype:
        rows = max(1, ROOM // (64 * latents.shape[-2] * latents.shape[-1]))  # a latent is 8 x 8 pixels
        parts = _shift(vae, latents.to(dtype, memory_format=torch.channels_last), into=False).split(rows)
        return _numbers(torch.cat([vae.decode(part, return_dict=False)[0] for part in parts]), "VAE", dtype)


def rows_at_once(images: Tensor) -> int:
    """Return how many pictures `(B, C, H, W)` are differentiated together."""
    return max(1, (8 * TILE) ** 2 // (images.shape[-2] * images.shape[-1]))


def latent_gradient(vae: Any, latents: Tensor, gradient: Callable[[Tensor], Tensor]) -> Tensor:
    """Return how something grows with each latent, given how with each pixel; in the memory of one tile."""
    height, width = latents.shape[-2:]
    if height * width <= TILE**2:
        return _back(vae, latents, gradient)
    pixels = gradient(decode_latents(vae, latents))
    cell, total = pixels.shape[-1] // width, torch.zeros_like(latents)
    for row in range(len(latents)):
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                down, across = (slice(max(at - MARGIN, 0), at + TILE + MARGIN) for at in (top, left))
                own = torch.zeros_like(pixels[row : row + 1])
                inner = (..., slice(top * cell, (top + TILE) * cell), slice(left * cell, (left + TILE) * cell))
                own[inner] = pixels[row : row + 1][inner]
                seen = own[..., down.start * cell : down.stop * cell, across.start * cell : across.stop * cell]
                part = _back(vae, latents[row : row + 1, :, down, across], lambda _, seen=seen: seen)
                total[row : row + 1, :, down, across] += part
    return total


def _back(vae: Any, latents: Tensor, gradient: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.enable_grad(), _safe_precision(vae) as dtype:  # backwards, too, in the precision of the way there
        leaf = latents.detach().requires_grad_(True)
        pixels = vae.decode(_shift(vae, leaf.to(dtype), into=False), return_dict=False)[0]
        return torch.autograd.grad(pixels, leaf, gradient(pixels.detach()).to(dtype))[0]


def _numbers(values: Tensor, whose: str, dtype: torch.dtype) -> Tensor:
    """Return values that are all finite."""
    if values.is_meta or bool(torch.isfinite(values).all()):  # on `meta` there are shapes only
        return values
    name = str(dtype).removeprefix("torch.")
    hint = " or a VAE that is safe in half precision" if whose == "VAE" else ""
    raise ImageError(f"The {whose} gave values that are no finite numbers in {name}: use --dtype bf16 or fp32{hint}.")


def _shift(vae: Any, latents: Tensor, into: bool) -> Tensor:
    mean, std = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
    scale = vae.config.scaling_factor
    if mean is None or std is None:
        return latents * scale if into else latents / scale
    mean, std = (torch.tensor(v).view(1, -1, 1, 1).to(latents) for v in (mean, std))
    return (latents - mean) * scale / std if into else latents * std / scale + mean


@contextmanager
def _safe_precision(vae: Any) -> Iterator[torch.dtype]:
    """Run a VAE that overflows in half precision in float32, and leave it as it was."""
    before = vae.dtype  # asked once: it looks at every parameter
    upcast = before == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
    if upcast:
        vae.to(dtype=torch.float32)
    try:
        yield torch.float32 if upcast else before
    finally:
        if upcast:
            vae.to(dtype=before)
