"""One whole-image distortion per quality dimension of MDIQA, each with a known strength."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


def distort(images: Tensor, dimension: str, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Return `(B, 3, S, S)` images in 0..1 that are bad in one dimension.

    Args:
        strength: `(B,)` in 0..1; at 0 an image comes back as it is.
    """
    changed = _DISTORTIONS[dimension](images, strength[:, None, None, None], generator).clamp(0, 1)
    return torch.where(strength[:, None, None, None] > 0, changed, images)


def _signs(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5, -1.0, 1.0).to(images.device)


def _luma(images: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=images.device)[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def _brightness(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Expose wrongly: too little light, or so much that highlights are lost."""
    dark = _signs(images, generator) < 0
    return torch.where(dark, images * (1 - 0.72 * s), images * (1 + 0.9 * s) + 0.08 * s)


def _colorfulness(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Drain the colours."""
    return images + (_luma(images) - images) * s


def _contrast(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Pull everything towards the picture's mean grey."""
    middle = _luma(images).mean((2, 3), keepdim=True)
    return images + (middle - images) * 0.8 * s


def _noisiness(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    return images + 0.20 * s * torch.randn(images.shape, generator=generator).to(images.device)


def _sharpness(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Blur: out of focus, or, in half of the pictures, softly, with the sharp picture shining through."""
    soft = _signs(images, generator) < 0
    focus = torch.where(soft, torch.ones_like(s), s)
    blurred = _gaussian(images, focus)
    return torch.where(soft, images + (blurred - images) * s, blurred)


def _gaussian(images: Tensor, s: Tensor) -> Tensor:
    sigma = 0.25 + 2.0 * s[:, 0, 0] * images.shape[-1] / 64
    offsets = torch.arange(-6, 7, device=images.device)
    kernels = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = F.pad(images.flatten(0, 1)[None], [6] * 4, mode="reflect")
    flat = F.conv2d(flat, kernels[:, None, None, :], groups=len(kernels))
    return F.conv2d(flat, kernels[:, None, :, None], groups=len(kernels))[0].unflatten(0, (-1, 3))


def _color(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Tint everything by one hue."""
    hue = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device) * 2 * math.pi
    turn = torch.arange(3, device=images.device)[None, :, None, None] * 2 * math.pi / 3
    return images + 0.28 * s * torch.cos(hue + turn)


def _composition(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Tilt the horizon, up to 35 degrees."""
    angle = (s * _signs(images, generator))[:, 0, 0, 0] * math.radians(35)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
    grid = F.affine_grid(turn, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _content(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Lose parts of the picture: flat grey squares, up to a third of all cells."""
    lost = torch.rand(len(images), 1, 8, 8, generator=generator).to(images.device) < 0.35 * s
    lost = F.interpolate(lost.float(), images.shape[-2:])
    return images + (0.5 - images) * lost


def _light(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Light one side only."""
    size = images.shape[-1]
    axis = torch.linspace(-1, 1, size, device=images.device)
    angle = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device) * 2 * math.pi
    ramp = axis[None, None, None, :] * angle.cos() + axis[None, None, :, None] * angle.sin()
    return images * (1 - 0.85 * s * (0.5 + 0.5 * ramp / 1.2).clamp(0, 1)) * (1 + 0.25 * s)


_DISTORTIONS: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "brightness": _brightness,
    "colorfulness": _colorfulness,
    "contrast": _contrast,
    "noisiness": _noisiness,
    "sharpness": _sharpness,
    "color": _color,
    "composition": _composition,
    "content": _content,
    "light": _light,
}
