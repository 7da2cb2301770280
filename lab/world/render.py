"""Scenes to pixels: batched, anti-aliased, at any size, with exact object masks."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.world.scene import MAX_OBJECTS, Scenes
from lab.world.vocabulary import COLOUR_RGB

Ink = list[tuple[Tensor, tuple[float, float, float]]]
Painted = tuple[Tensor, Tensor, Ink]
"""What a thing draws at local coordinates (M, P, P), u to the right, v down, its radius 1: signed distance, negative
inside; brightness 0..1.3; and what is drawn over everything."""

BROWN, DOOR, WINDOW, DARK = (0.42, 0.27, 0.14), (0.36, 0.20, 0.12), (0.99, 0.93, 0.62), (0.08, 0.08, 0.10)


def _diffuse(u: Tensor, v: Tensor) -> Tensor:
    return (0.88 - 0.22 * u - 0.30 * v).clamp(0.35, 1.2)


def _gloss(u: Tensor, v: Tensor, at: tuple[float, float], width: float = 0.04) -> Tensor:
    return 0.55 * torch.exp(-((u - at[0]) ** 2 + (v - at[1]) ** 2) / width)


def _triangle(u: Tensor, v: Tensor, apex: float, base: float, half: float) -> Tensor:
    """Distance to an upright isosceles triangle between heights `apex` and `base`."""
    slope = half / (base - apex)
    side = (u.abs() - slope * (v - apex)) / (1 + slope * slope) ** 0.5
    return torch.maximum(side, v - base)


def ball(u: Tensor, v: Tensor) -> Painted:
    """A shaded sphere with a highlight."""
    return (u * u + v * v).sqrt() - 0.95, _diffuse(u, v) + _gloss(u, v, (-0.35, -0.42)), []


def box(u: Tensor, v: Tensor) -> Painted:
    """A cube seen from the front, a little from above and from the right."""
    edges = torch.stack([-0.88 - u, v - 0.90, u - 0.92, -0.88 - v, (-1.46 - u - v) * 0.707, (u + v - 1.50) * 0.707])
    top, side = (v < -0.56) & (u + v < 0.04), (u > 0.60) & (u + v >= 0.04)
    shade = torch.where(top, 1.12, torch.where(side, 0.62, 0.90 - 0.06 * v))
    return edges.amax(0), shade, []


def cone(u: Tensor, v: Tensor) -> Painted:
    """A cone on its round foot."""
    side = (u.abs() - 0.457 * (v + 0.95)) * 0.909
    foot = v - 0.68 - 0.24 * (1 - (u / 0.82) ** 2).clamp(min=0).sqrt()
    across = u / (0.457 * (v + 1.05)).clamp(min=0.08)
    return torch.maximum(side, foot), (0.88 - 0.34 * across).clamp(0.45, 1.2), []


def star(u: Tensor, v: Tensor) -> Painted:
    """A bevelled five-pointed star."""
    angle = torch.atan2(u, -v)
    fifth = 2 * torch.pi / 5
    folded = (angle + fifth / 2) % fifth - fifth / 2
    reach = (u * u + v * v).sqrt()
    a, b = reach * folded.abs().sin(), reach * folded.abs().cos()
    # The edge runs from the tip (0, 1) to the inner corner at 36 degrees, radius 0.46.
    tip, corner = torch.tensor([0.0, 1.0]), 0.46 * torch.tensor([0.5878, 0.8090])
    normal = torch.tensor([tip[1] - corner[1], corner[0] - tip[0]])
    normal = normal / normal.norm()
    shade = (0.92 - 0.25 * v + 0.22 * torch.where(folded < 0, 1.0, -1.0)).clamp(0.5, 1.2)
    return a * normal[0] + (b - 1.0) * normal[1], shade, []


def heart(u: Tensor, v: Tensor) -> Painted:
    y = -v * 1.05 - 0.62 * (u.abs() + 0.01).sqrt() + 0.30
    return ((u * u + y * y).sqrt() - 0.92) * 0.8, _diffuse(u, v) + _gloss(u, v, (-0.42, -0.42), 0.05), []


def tree(u: Tensor, v: Tensor) -> Painted:
    """A fir of three tiers on a trunk."""
    tiers = [_triangle(u, v, -1.0, -0.32, 0.48), _triangle(u, v, -0.62, 0.18, 0.66)]
    tiers.append(_triangle(u, v, -0.22, 0.68, 0.82))
    crown = torch.stack(tiers).amin(0)
    trunk = torch.maximum(u.abs() - 0.15, (v - 0.80).abs() - 0.18)
    depth = torch.where(v < -0.32, v + 1.0, torch.where(v < 0.18, v + 0.32, v - 0.18))
    shade = (1.08 - 0.45 * depth - 0.22 * u).clamp(0.5, 1.2)
    return torch.minimum(crown, trunk), shade, [((trunk <= 0.02) & (crown > 0), BROWN)]


def house(u: Tensor, v: Tensor) -> Painted:
    """A gabled house with a door and a lit window."""
    body = torch.maximum(u.abs() - 0.70, (v - 0.42).abs() - 0.52)
    roof = _triangle(u, v, -0.98, -0.02, 0.95)
    shade = torch.where(roof < 0, 0.58 - 0.10 * u, 0.98 - 0.10 * u)
    door = ((u + 0.30).abs() < 0.17) & (v > 0.34) & (v < 0.95)
    window = ((u - 0.30).abs() < 0.19) & ((v - 0.36).abs() < 0.18)
    return torch.minimum(body, roof), shade, [(door, DOOR), (window, WINDOW)]


def cat(u: Tensor, v: Tensor) -> Painted:
    """A sitting cat with ears, eyes and a tail."""

    def oval(x: float, y: float, rx: float, ry: float) -> Tensor:
        return ((((u - x) / rx) ** 2 + ((v - y) / ry) ** 2).sqrt() - 1) * min(rx, ry)

    head, body = oval(0, -0.38, 0.52, 0.44), oval(0, 0.46, 0.58, 0.50)
    ears = torch.minimum(_triangle(u + 0.34, v, -0.99, -0.45, 0.24), _triangle(u - 0.34, v, -0.99, -0.45, 0.24))
    tail = (((u - 0.62) ** 2 + (v - 0.40) ** 2).sqrt() - 0.30).abs() - 0.09
    tail = torch.maximum(tail, 0.55 - u)
    eyes = ((u.abs() - 0.20) ** 2 + (v + 0.42) ** 2) < 0.0085
    nose = (u**2 + (v + 0.24) ** 2) < 0.0050
    distance = torch.stack([head, body, ears, tail]).amin(0)
    shade = _diffuse(u, v) - 0.16 * ((head > 0) & (v < 0.16)).float()
    return distance, shade, [(eyes, DARK), (nose, DARK)]


SHAPES: tuple[Callable[[Tensor, Tensor], Painted], ...] = (ball, box, cone, star, heart, tree, house, cat)
"""In the order of `vocabulary.NOUNS`."""


SKY_TOP = torch.tensor([[0.33, 0.62, 0.93], [0.38, 0.24, 0.52], [0.04, 0.05, 0.16]])
SKY_LOW = torch.tensor([[0.80, 0.91, 0.98], [1.00, 0.68, 0.42], [0.18, 0.20, 0.42]])
GROUND_FAR = torch.tensor(
    [[0.44, 0.68, 0.30], [0.93, 0.84, 0.62], [0.96, 0.97, 1.00], [0.30, 0.62, 0.82], [0.55, 0.55, 0.57]]
)
GROUND_NEAR = torch.tensor(
    [[0.20, 0.50, 0.16], [0.82, 0.68, 0.42], [0.82, 0.87, 0.95], [0.08, 0.34, 0.62], [0.36, 0.36, 0.39]]
)
HILL = torch.tensor([[0.48, 0.66, 0.62], [0.45, 0.30, 0.45], [0.09, 0.11, 0.24]])
LIGHT = torch.tensor([1.0, 0.90, 0.55])
"""How bright the ground is by day, at sunset and at night."""


def background(ground: Tensor, sky: Tensor, horizon: Tensor, look: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the empty scenes (B, 3, S, S) in 0..1 and where the ground is (B, S, S) bool."""
    device = ground.device
    axis = (torch.arange(size, device=device) + 0.5) / size
    y, x = axis[:, None], axis[None, :]
    numbers = _numbers(look, 12)
    # The horizon (B, 1, S): water and roads are flat, the rest rolls.
    roll = torch.where((ground == 3) | (ground == 4), 0.0, 0.018)[:, None]
    wave = torch.sin(x * (5 + 4 * numbers[:, 4:5]) + 6.3 * numbers[:, 5:6])
    line = (horizon[:, None] + roll * wave)[:, None]
    below = (y[None] - line) * size
    cover = (below + 0.5).clamp(0, 1)
    image = _sky(sky, horizon, numbers, look, x, y, size)
    hills = horizon[:, None] - 0.05 - 0.04 * torch.sin(x * (4 + 5 * numbers[:, 0:1]) + 6.3 * numbers[:, 1:2])
    hills = hills + 0.02 * torch.sin(x * 17 * (0.6 + numbers[:, 2:3]) + 6.3 * numbers[:, 3:4])
    near = ((y[None] - hills[:, None]) * size + 0.5).clamp(0, 1)[:, None]
    image = image + (HILL.to(device)[sky][:, :, None, None] - image) * near
    floor = _ground(ground, sky, line, numbers, x, y)
    image = image + (floor - image) * cover[:, None]
    return image.clamp(0, 1), below > 0


def _numbers(look: Tensor, count: int) -> Tensor:
    """(B, count) reproducible numbers in 0..1 from the look seeds, whatever the batch."""
    state = look[:, None] * 2654435761 + torch.arange(1, count + 1, device=look.device) * 40503
    state = (state ^ (state >> 13)) * 1274126177 & 0x7FFFFFFF
    state = (state ^ (state >> 11)) * 668265263 & 0x7FFFFFFF
    return (state ^ (state >> 15)).float() / 0x7FFFFFFF


def _sky(sky: Tensor, horizon: Tensor, numbers: Tensor, look: Tensor, x: Tensor, y: Tensor, size: int) -> Tensor:
    depth = (y / horizon[:, None, None]).clamp(0, 1)[:, None]
    top, low = SKY_TOP.to(sky.device)[sky][:, :, None, None], SKY_LOW.to(sky.device)[sky][:, :, None, None]
    image = top + (low - top) * depth**1.4
    image = image.expand(-1, -1, -1, size).clone()
    sun_x, sun_y = 0.15 + 0.7 * numbers[:, 6], 0.10 + 0.12 * numbers[:, 7]
    sun_y = torch.where(sky == 1, horizon - 0.04, sun_y)
    far = (x - sun_x[:, None, None]) ** 2 + (y - sun_y[:, None, None]) ** 2
    glow = 0.75 * torch.exp(far / -0.03) * (sky == 1)[:, None, None]
    image += glow[:, None] * torch.tensor([0.6, 0.45, 0.15], device=sky.device)[:, None, None]
    disc = ((0.055 - far.sqrt()) * size + 0.5).clamp(0, 1) * (sky == 2)[:, None, None]
    image += (torch.tensor([0.96, 0.95, 0.86], device=sky.device)[:, None, None] - image) * disc[:, None]
    day, night = (sky == 0).nonzero()[:, 0], (sky == 2).nonzero()[:, 0]
    cells = _numbers(look[day] * 7 + 3, 28).view(-1, 1, 7, 4)
    clouds = F.interpolate(cells, (size, size), mode="bicubic", align_corners=False)
    image[day] += (1 - image[day]) * ((clouds - 0.60) * 2.2).clamp(0, 0.75) * (1 - 0.6 * depth[day])
    # Nine soft stars per night.
    places = _numbers(look[night] * 5 + 1, 18).view(-1, 9, 2)
    across = torch.exp((x - places[:, :, 0, None, None]) ** 2 / -0.00018)
    down = torch.exp((y - 0.5 * places[:, :, 1, None, None]) ** 2 / -0.00018)
    stars = torch.einsum("bnry,bncx->byx", down.transpose(2, 3), across)[:, None].clamp(max=1) * 0.9
    image[night] += (1 - image[night]) * stars
    return image


def _ground(ground: Tensor, sky: Tensor, line: Tensor, numbers: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(B, 3, S, S) the floor as if it reached to the top."""
    device = ground.device
    depth = ((y[None] - line) / 0.5).clamp(0, 1)
    far, near = GROUND_FAR.to(device)[ground], GROUND_NEAR.to(device)[ground]
    image = far[:, :, None, None] + (near - far)[:, :, None, None] * depth[:, None]
    phase = 6.3 * numbers[:, 8, None, None]
    v = y[None] - line
    x = x[None]
    patterns = (
        lambda v, p: 0.07 * torch.sin(52 * x + 9 * torch.sin(24 * v + p)) * torch.sin(38 * v + p),
        lambda v, p: 0.045 * torch.sin(42 * v + 3 * torch.sin(7 * x + p)),
        lambda v, p: 0.030 * torch.sin(15 * v + 2 * torch.sin(5 * x + p)),
        lambda v, p: 0.085 * torch.sin(48 * v + 1.4 * torch.sin(14 * x + p)),
        lambda v, p: 0.40 * (((v - 0.26).abs() < 0.018) & (((x * 5 + p) % 1) < 0.55)),
    )
    image = image.expand(-1, -1, -1, x.shape[-1]).clone()
    for kind, pattern in enumerate(patterns):
        rows = (ground == kind).nonzero()[:, 0]
        image[rows] += pattern(v[rows], phase[rows])[:, None]
    bright = LIGHT.to(device)[sky][:, None, None, None]
    tint = torch.tensor([[1.0, 1.0, 1.0], [1.06, 0.97, 0.90], [0.80, 0.88, 1.15]], device=device)[sky]
    return (image * bright * tint[:, :, None, None]).clamp(0, 1)


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
    images, floor = background(ground, sky, horizon, look, size)
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
