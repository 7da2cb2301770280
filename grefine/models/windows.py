"""Fixed-size windows over a picture of any size, as LIQE-like judges look at it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

WINDOW = 224
STRIDE = 32
WIDE_STRIDE = 48
WIDE_SIDE = 1024
"""From this side on windows are `WIDE_STRIDE` apart."""
LONGEST_SHORT_SIDE = 768


def fitted(image: Image.Image) -> Image.Image:
    """Bring a picture to a size that windows fit on: short sides enlarged to 224, very large pictures reduced."""
    image = image.convert("RGB")
    width, height = image.size
    if min(width, height) < WINDOW:
        scale = max(WINDOW / width, WINDOW / height)
        width, height = round(width * scale), round(height * scale)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    short = min(width, height)
    if short >= LONGEST_SHORT_SIDE:
        # The longer side is cut, not rounded, to a whole pixel, as torchvision's Resize does.
        longer = int(LONGEST_SHORT_SIDE * max(width, height) / short)
        size = (LONGEST_SHORT_SIDE, longer) if width <= height else (longer, LONGEST_SHORT_SIDE)
        image = image.resize(size, Image.Resampling.BILINEAR)
    return image


def window_places(width: int, height: int) -> list[tuple[int, int]]:
    """Return (top, left) of every window, rows outer."""
    stride = WIDE_STRIDE if max(width, height) >= WIDE_SIDE else STRIDE
    rows, columns = range(0, height - WINDOW + 1, stride), range(0, width - WINDOW + 1, stride)
    return [(top, left) for top in rows for left in columns]


def spread_indices(n: int, count: int = 15, repeat: bool = False) -> list[int]:
    """Return `count` evenly spaced window numbers out of n.

    With fewer than `count` windows each is taken once; `repeat=True` takes the first one `count` times instead, as
    the published stand-alone test does.
    """
    if n < count and not repeat:
        return list(range(n))
    return [k * (n // count) for k in range(count)]


def spread_windows(image: Image.Image, count: int = 15, repeat: bool = False) -> Tensor:
    """Return `(windows, 3, 224, 224)`, float in 0..1: the evenly spaced windows of a picture."""
    image = fitted(image)
    places = window_places(*image.size)
    return _cut(image, [places[i] for i in spread_indices(len(places), count, repeat)])


def random_windows(image: Image.Image, count: int, generator: torch.Generator) -> Tensor:
    """Return `(count, 3, 224, 224)`: windows drawn with replacement from a picture that is mirrored half the time."""
    image = fitted(image)
    if torch.rand((), generator=generator) < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    places = window_places(*image.size)
    drawn = torch.randint(len(places), (count,), generator=generator).tolist()
    return _cut(image, [places[i] for i in drawn])


def _cut(image: Image.Image, places: list[tuple[int, int]]) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return torch.stack([pixels[:, top : top + WINDOW, left : left + WINDOW] for top, left in places])
