"""One whole-image distortion per quality dimension of MDIQA, each with a known strength."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.world.defects import gaussian_blur, tints


def distort(images: Tensor, dimension: str, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Return `(B, 3, S, S)` images in 0..1 that are bad in one dimension; at strength 0 as they were."""
    strength = strength[:, None, None, None]
    return torch.where(strength > 0, _DISTORTIONS[dimension](images, strength, generator).clamp(0, 1), images)


def _signs(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5, -1.0, 1.0).to(images.device)


def _luma(images: Tensor) -> Tensor:
    return (images * torch.tensor([0.299, 0.587, 0.114], device=images.device)[:, None, None]).sum(1, keepdim=True)


def _brightness(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Expose wrongly: too little light, or so much that highlights are lost."""
    dark = _signs(images, generator) < 0
    return torch.where(dark, images * (1 - 0.72 * s), images * (1 + 0.9 * s) + 0.08 * s)


def _sharpness(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Blur: out of focus, or, in half of the pictures, softly, with the sharp picture shining through."""
    soft = _signs(images, generator) < 0
    focus = torch.where(soft, torch.ones_like(s), s)
    blurred = gaussian_blur(images, 0.25 + 2.0 * focus[:, 0, 0] * images.shape[-1] / 64, 6, "reflect")
    return torch.where(soft, images + (blurred - images) * s, blurred)


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
    "colorfulness": lambda images, s, _: images + (_luma(images) - images) * s,
    "contrast": lambda images, s, _: images + (_luma(images).mean((2, 3), keepdim=True) - images) * 0.8 * s,
    "noisiness": lambda images, s, g: images + 0.20 * s * torch.randn(images.shape, generator=g).to(images.device),
    "sharpness": _sharpness,
    "color": lambda images, s, generator: images + 0.28 * s * tints(images, generator),
    "composition": _composition,
    "content": _content,
    "light": _light,
}
