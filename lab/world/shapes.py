"""The eight things of the toy world as signed distances with paint.

Every function takes local coordinates (u to the right, v down, the object's radius = 1; shape (M, P, P)) and returns
`(distance, shade, ink)`: negative inside; brightness 0..1.3;
and what is drawn over everything: a list of `(bool mask, rgb)`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Ink = list[tuple[Tensor, tuple[float, float, float]]]
Painted = tuple[Tensor, Tensor, Ink]

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
