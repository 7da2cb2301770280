"""Skies and grounds of the toy world: smooth, textured, and coarse enough for a 4x autoencoder."""

import torch
import torch.nn.functional as F
from torch import Tensor

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


def draw(ground: Tensor, sky: Tensor, horizon: Tensor, look: Tensor, size: int) -> tuple[Tensor, Tensor]:
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
