"""Scenes to pixels: batched, anti-aliased, at any size, with exact object masks."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lab.world.backgrounds import LIGHT, draw
from lab.world.scene import MAX_OBJECTS, Scenes
from lab.world.shapes import SHAPES
from lab.world.vocabulary import COLOUR_RGB


@dataclass(frozen=True)
class Rendered:
    """What a batch of scenes looks like."""

    images: Tensor
    """(B, 3, S, S) float, 0..1."""
    objects: Tensor
    """(B, K, S, S) bool: the visible pixels of each object."""
    ground: Tensor
    """(B, S, S) bool: the ground where no object covers it."""

    @property
    def sky(self) -> Tensor:
        """(B, S, S) bool: everything else."""
        return ~(self.ground | self.objects.any(1))


def render(scenes: Scenes, size: int = 64, device: torch.device | str = "cpu") -> Rendered:
    """Draw the scenes, later objects over earlier ones."""
    ground, sky, horizon, look = (t.to(device) for t in (scenes.ground, scenes.sky, scenes.horizon, scenes.look))
    images, floor = draw(ground, sky, horizon, look, size)
    side = 2 * math.ceil(1.12 * 0.27 * size) + 2
    pad = side // 2 + 1
    canvas = torch.nn.functional.pad(images, (pad, pad, pad, pad))
    owner = torch.full((len(scenes), size + 2 * pad, size + 2 * pad), -1, dtype=torch.int8, device=device)
    for slot in range(MAX_OBJECTS):
        rows = scenes.present[:, slot].nonzero()[:, 0]
        if not len(rows):
            continue
        # Each object is drawn in a patch of `side` pixels round its centre.
        x, y, radius = (t[rows, slot].to(device) for t in (scenes.x, scenes.y, scenes.radius))
        noun, colour, texture = (t[rows, slot].to(device) for t in (scenes.noun, scenes.colour, scenes.texture))
        left, top = (x * size - side / 2).floor().long(), (y * size - side / 2).floor().long()
        step = torch.arange(side, device=device)
        px, py = (left[:, None] + step + 0.5) / size, (top[:, None] + step + 0.5) / size
        u = ((px - x[:, None]) / radius[:, None])[:, None, :].expand(-1, side, -1)
        v = ((py - y[:, None]) / radius[:, None])[:, :, None].expand(-1, -1, side)
        cover, rgb = _objects(u, v, noun, colour, texture, radius * size)
        night = LIGHT.to(device)[sky[rows]]
        rgb = rgb * (0.35 + 0.65 * night.clamp(max=1.0))[:, None, None, None].clamp(min=0.80)
        grounded = (y + radius * 0.9 > horizon[rows] + 0.03)[:, None, None]
        shadow = 0.38 * torch.exp(-((u * 0.95) ** 4) - ((v - 0.98) / 0.22) ** 2) * grounded
        b = rows.to(device)[:, None, None]
        iy, ix = (top[:, None] + step + pad)[:, :, None], (left[:, None] + step + pad)[:, None, :]
        under = canvas[b, :, iy, ix].permute(0, 3, 1, 2) * (1 - shadow[:, None])
        canvas[b, :, iy, ix] = (under + (rgb - under) * cover[:, None]).permute(0, 2, 3, 1)
        own = torch.tensor(slot, dtype=torch.int8, device=device)
        owner[b, iy, ix] = torch.where(cover > 0.5, own, owner[b, iy, ix])
    owner = owner[:, pad:-pad, pad:-pad]
    objects = torch.stack([owner == slot for slot in range(MAX_OBJECTS)], 1)
    return Rendered(canvas[:, :, pad:-pad, pad:-pad].clamp(0, 1), objects, floor & (owner < 0))


def _objects(
    u: Tensor, v: Tensor, noun: Tensor, colour: Tensor, texture: Tensor, pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return coverage (M, P, P) and colour (M, 3, P, P) of M objects in their local coordinates."""
    palette = torch.tensor(COLOUR_RGB, device=u.device)
    base = palette[colour][:, :, None, None]
    second = torch.where((colour == 7)[:, None], torch.tensor([0.28, 0.28, 0.32], device=u.device), 0.97)
    second = second[:, :, None, None].expand(-1, 3, -1, -1)
    # Periods are in object radii, never under 5 pixels of 64.
    stripes = torch.sin((u + v * 0.9) * 5.6) > 0.25
    checks = (torch.sin(u * 5.2) * torch.sin(v * 5.2)) > 0
    dots = (((u * 1.55) % 1 - 0.5) ** 2 + ((v * 1.55) % 1 - 0.5) ** 2) < 0.075
    kind = texture[:, None, None]
    pattern = ((kind == 1) & stripes) | ((kind == 2) & checks) | ((kind == 3) & dots)
    rgb = torch.where(pattern[:, None], second, base)
    cover, shade = torch.empty_like(u), torch.empty_like(u)
    for index, shape in enumerate(SHAPES):
        chosen = (noun == index).nonzero()[:, 0]
        if not len(chosen):
            continue
        distance, light, ink = shape(u[chosen], v[chosen])
        cover[chosen] = (0.5 - distance * pixels[chosen, None, None]).clamp(0, 1)
        shade[chosen] = light
        for where, paint in ink:
            fill = torch.tensor(paint, device=u.device)[:, None, None]
            rgb[chosen] = torch.where(where[:, None], fill, rgb[chosen])
    lit = rgb * shade[:, None].clamp(max=1.0) + (1 - rgb) * (shade[:, None] - 1.0).clamp(min=0)
    return cover, lit
