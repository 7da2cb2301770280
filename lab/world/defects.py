"""Perceptual defects with a known place, kind and severity.

A defect fills a soft random blob; half of the blobs sit on an object, half do not. The true mask holds only pixels
that visibly changed: a blurred piece of plain sky is not a defect.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.world.vocabulary import DEFECT_KINDS, TRAINING_DEFECTS

VISIBLE = 0.016
"""Mean absolute change over a 9-pixel neighbourhood from which a change counts as visible."""
MIN_AREA = 0.015
"""Share of the image that a defect must visibly change; otherwise it is drawn again elsewhere."""


@dataclass(frozen=True)
class Damaged:
    """Images with one perceptual defect each."""

    images: Tensor
    """(B, 3, S, S) float, 0..1."""
    masks: Tensor
    """(B, S, S) bool, where the damage is visible."""
    severity: Tensor
    """(B,) float: the visible change summed over the image, saturating where it is obvious."""
    kinds: Tensor
    """(B,) long, into `DEFECT_KINDS`."""


def damage(
    images: Tensor, objects: Tensor, generator: torch.Generator, kinds: Sequence[str] = TRAINING_DEFECTS
) -> Damaged:
    """Give every image one defect, its kind drawn from `kinds`."""
    count = len(images)
    codes = torch.tensor([DEFECT_KINDS.index(kind) for kind in kinds])
    kind = codes[torch.randint(len(codes), (count,), generator=generator)]
    contrast = _smooth((images - _smooth(images)).abs().amax(1, keepdim=True))[:, 0]
    result = _draw(images, objects, contrast, kind, generator)
    for _ in range(4):
        weak = (result.masks.float().mean((1, 2)) < MIN_AREA).nonzero()[:, 0]
        if not len(weak):
            break
        again = _draw(images[weak], objects[weak], contrast[weak], kind[weak.cpu()], generator)
        for name in ("images", "masks", "severity"):
            getattr(result, name)[weak] = getattr(again, name)
    return result


def _draw(images: Tensor, objects: Tensor, contrast: Tensor, kind: Tensor, generator: torch.Generator) -> Damaged:
    count, device = len(images), images.device
    strength = 0.3 + 0.7 * torch.rand(count, generator=generator)
    blob = _blobs(objects, contrast, generator)
    spoilt = spoil(images, [DEFECT_KINDS[code] for code in kind.tolist()], strength, generator)
    damaged = (images + (spoilt - images) * blob[:, None]).clamp(0, 1)
    change = _smooth((damaged - images).abs().mean(1, keepdim=True), 9)[:, 0]
    masks = (change > VISIBLE) & (blob > 0.25)
    severity = (change * masks / 0.15).clamp(max=1).mean((1, 2))
    return Damaged(damaged, masks, severity, kind.to(device))


def spoil(images: Tensor, kinds: Sequence[str], strength: Tensor, generator: torch.Generator) -> Tensor:
    """Spoil every image (B, 3, S, S) all over, each by its own kind and at its own strength (B,) in 0..1."""
    device, spoilt = images.device, images.clone()
    for kind in sorted(set(kinds), key=DEFECT_KINDS.index):
        rows = torch.tensor([i for i, other in enumerate(kinds) if other == kind])
        own = strength[rows].to(device)[:, None, None, None]
        spoilt[rows.to(device)] = _SPOIL[kind](images[rows.to(device)], own, generator)
    return spoilt


def _smooth(images: Tensor, side: int = 5) -> Tensor:
    return F.avg_pool2d(F.pad(images, [side // 2] * 4, mode="replicate"), side, 1)


def _blobs(objects: Tensor, contrast: Tensor, generator: torch.Generator) -> Tensor:
    """(B, S, S) float 0..1: wobbly discs, half on objects, half on the rest of the scene."""
    count, size = len(objects), objects.shape[-1]
    on_object = (torch.rand(count, generator=generator) < 0.5).to(objects.device)
    where = torch.where(on_object[:, None, None], objects, ~objects).float() * (contrast + 0.004)
    where = where.flatten(1).cpu() + 1e-9
    centre = torch.multinomial(where, 1, generator=generator)[:, 0]
    cy, cx = (centre // size).float() / size, (centre % size).float() / size
    radius = 0.11 + 0.13 * torch.rand(count, generator=generator)
    wave = torch.rand(count, 3, 2, generator=generator)
    axis = (torch.arange(size) + 0.5) / size
    dx, dy = axis[None, None, :] - cx[:, None, None], axis[None, :, None] - cy[:, None, None]
    angle = torch.atan2(dy, dx)
    edge = torch.ones(count, size, size)
    for order in range(3):
        amount, phase = wave[:, order, 0, None, None], wave[:, order, 1, None, None]
        edge = edge + 0.28 * amount * torch.sin((order + 2) * angle + 2 * math.pi * phase)
    inside = radius[:, None, None] * edge - (dx * dx + dy * dy).sqrt()
    return torch.sigmoid(inside * size / 0.8).to(objects.device)


def gaussian_blur(images: Tensor, sigma: Tensor, reach: int, beyond: str) -> Tensor:
    """Blur every image (B, 3, S, S) by its own deviation (B, 1); `beyond` says how it goes on at its edges."""
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    kernels = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = F.pad(images.flatten(0, 1)[None], [reach] * 4, mode=beyond)
    flat = F.conv2d(flat, kernels[:, None, None, :], groups=len(kernels))
    return F.conv2d(flat, kernels[:, None, :, None], groups=len(kernels))[0].unflatten(0, (-1, 3))


def tints(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return how far each channel of each image goes, -1..1, towards a hue of its own: (B, 3, 1, 1)."""
    hue = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device) * 2 * math.pi
    return torch.cos(hue + torch.arange(3, device=images.device)[None, :, None, None] * 2 * math.pi / 3)


def _blur(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    sigma = (1.1 + 2.4 * strength[:, 0, 0]) * images.shape[-1] / 64
    return gaussian_blur(images, sigma, math.ceil(2.5 * 3.5 * images.shape[-1] / 64), "replicate")


def _noise(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return (images + noise * (0.08 + 0.24 * strength)).clamp(0, 1)


def _jpeg(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Quantise 8x8 block cosine coefficients, coarser with frequency."""
    count, channels, height, width = images.shape
    n = torch.arange(8, device=images.device)
    basis = torch.cos(math.pi * (2 * n[None] + 1) * n[:, None] / 16) * 0.5
    basis[0] *= 0.5**0.5
    blocks = images.view(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = basis @ blocks @ basis.T
    step = (0.10 + 0.45 * strength[..., None, None]) * (1 + 0.6 * (n[:, None] + n[None]))
    quantised = (coefficients / step).round() * step
    blocks = basis.T @ quantised @ basis
    return blocks.transpose(3, 4).reshape(images.shape).clamp(0, 1)


def move_pixels(images: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Read every image at displaced places; displacements (B, S, S) in pixels."""
    size = images.shape[-1]
    axis = (torch.arange(size, device=images.device) + 0.5) / size * 2 - 1
    grid = torch.stack([axis[None, None, :] + dx * 2 / size, axis[None, :, None] + dy * 2 / size], -1)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _warp(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    coarse = torch.randn(len(images), 2, 9, 9, generator=generator).to(images.device)
    field = F.interpolate(coarse, images.shape[-2:], mode="bicubic", align_corners=False)
    field = field * (1.6 + 3.2 * strength) * images.shape[-1] / 64
    return move_pixels(images, field[:, 0], field[:, 1])


def _cast(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Push the colours towards a saturated tint, as a broken channel does."""
    return (images + tints(images, generator) * (0.16 + 0.26 * strength)).clamp(0, 1)


def _banding(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Keep only a few levels per channel."""
    levels = (4.6 - 2.4 * strength).round()
    return (images * levels).round() / levels


def _smear(images: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Drag the pixels along one direction."""
    angle = torch.rand(len(images), 1, 1, generator=generator).to(images.device) * math.pi
    length = (5 + 9 * strength[:, 0]) * images.shape[-1] / 64
    steps = torch.linspace(-0.5, 0.5, 9).tolist()
    shape = (len(images), *images.shape[-2:])
    moved = [
        move_pixels(images, (angle.cos() * length * t).expand(shape), (angle.sin() * length * t).expand(shape))
        for t in steps
    ]
    return torch.stack(moved).mean(0)


_SPOIL: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "warp": _warp,
    "cast": _cast,
    "banding": _banding,
    "smear": _smear,
}


SHARES = (0.74, 0.12, 0.14)
"""Of pictures that keep their damage as it is, get a second kind on top of it, or one of the strange ones here."""


def with_unknown_damage(damaged: Damaged, generator: torch.Generator) -> Damaged:
    """Spoil some of the damaged places further, inside the same masks; severity is not kept up to date."""
    count = len(damaged.images)
    fate = torch.multinomial(torch.tensor(SHARES), count, True, generator=generator)
    images = damaged.images.clone()
    place = _smooth(damaged.masks[:, None].float(), 3)
    for chosen, changes in ((1, _second), (2, _strange)):
        rows = (fate == chosen).nonzero()[:, 0].to(images.device)
        if len(rows):
            changed = changes(damaged.images[rows], generator)
            images[rows] += (changed - damaged.images[rows]) * place[rows]
    return replace(damaged, images=images.clamp(0, 1))


def _second(images: Tensor, generator: torch.Generator) -> Tensor:
    kinds = [TRAINING_DEFECTS[i] for i in torch.randint(len(TRAINING_DEFECTS), (len(images),), generator=generator)]
    return spoil(images, kinds, 0.1 + 0.6 * torch.rand(len(images), generator=generator), generator)


def _strange(images: Tensor, generator: torch.Generator) -> Tensor:
    fate = torch.randint(len(_STRANGE), (len(images),), generator=generator)
    found = images.clone()
    for code, change in enumerate(_STRANGE):
        rows = (fate == code).nonzero()[:, 0].to(images.device)
        if len(rows):
            found[rows] = change(images[rows], generator)
    return found


def _scattered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Read every pixel at a random place near it, as through frosted glass."""
    size = images.shape[-1]
    reach = (1.0 + 3.0 * torch.rand(len(images), 1, 1, generator=generator)).to(images.device)
    moves = torch.randn(2, len(images), size, size, generator=generator).to(images.device)
    return move_pixels(images, moves[0] * reach, moves[1] * reach)


def _mosaic(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the picture in large square cells."""
    found = []
    for image in images:
        cell = (2, 4, 8)[int(torch.randint(3, (1,), generator=generator))]
        found.append(F.interpolate(F.avg_pool2d(image[None], cell), scale_factor=cell, mode="nearest"))
    return torch.cat(found)


def _swapped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Show another picture through, at any strength."""
    strength = 0.3 + 0.7 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return images + (images.roll(1, 0).flip(-1) - images) * strength.to(images.device)


def _flat(images: Tensor, generator: torch.Generator) -> Tensor:
    """Fill with any one colour, most of the way."""
    colour = torch.rand(len(images), 3, 1, 1, generator=generator).to(images.device)
    share = 0.5 + 0.5 * torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device)
    return images + (colour - images) * share


_STRANGE = (_scattered, _scattered, _scattered, _mosaic, _mosaic, _swapped, _flat)
