"""RGB to HSV, LAB and YUV on 8-bit images in whole numbers, as OpenCV computes them, without OpenCV.

Floating-point formulas differ from these in every tenth value or so, which a network trained on the 8-bit form sees.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

import numpy as np

from grefine.errors import ConfigError, nearest

ColorSpace = Literal["RGB", "HSV", "LAB", "YUV"]
COLOR_SPACES: tuple[str, ...] = get_args(ColorSpace)


def convert(rgb: np.ndarray, space: str) -> np.ndarray:
    """Return `(H, W, 3)` uint8 in another colour space; hue is in 0..179."""
    if space not in _CONVERSIONS:
        raise ConfigError(f"No colour space '{space}': {', '.join(COLOR_SPACES)}{nearest(space, COLOR_SPACES)}")
    return _CONVERSIONS[space](rgb)


def _yuv(rgb: np.ndarray) -> np.ndarray:
    r, g, b = (rgb[..., i].astype(np.int64) for i in range(3))
    half, middle = 1 << 13, 128 << 14
    y = (4899 * r + 9617 * g + 1868 * b + half) >> 14
    u = ((b - y) * 8061 + middle + half) >> 14
    v = ((r - y) * 14369 + middle + half) >> 14
    return np.stack([y, u, v], axis=-1).clip(0, 255).astype(np.uint8)


def _hsv(rgb: np.ndarray) -> np.ndarray:
    r, g, b = (rgb[..., i].astype(np.int64) for i in range(3))
    value = rgb.max(axis=-1).astype(np.int64)
    spread = value - rgb.min(axis=-1)
    steps = np.arange(1, 256)
    by_value = np.concatenate([[0], np.rint(255 * 4096 / steps)]).astype(np.int64)
    by_spread = np.concatenate([[0], np.rint(180 * 4096 / (6 * steps))]).astype(np.int64)
    saturation = (spread * by_value[value] + (1 << 11)) >> 12
    sector = np.where(value == r, g - b, np.where(value == g, b - r + 2 * spread, r - g + 4 * spread))
    hue = (sector * by_spread[spread] + (1 << 11)) >> 12
    hue = np.where(hue < 0, hue + 180, hue)
    return np.stack([hue, saturation, value], axis=-1).clip(0, 255).astype(np.uint8)


@cache
def _lab_tables() -> tuple[np.ndarray, np.ndarray]:
    share = np.arange(256) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    t = np.arange(256 * 8 * 3 // 2) / 2040
    root = np.where(t < 0.008856, 7.787 * t + 16 / 116, np.cbrt(t))
    return np.rint(255 * 8 * linear).astype(np.int64), np.rint(32768 * root).astype(np.int64)


def _lab(rgb: np.ndarray) -> np.ndarray:
    linear, root = _lab_tables()
    r, g, b = (linear[rgb[..., i]] for i in range(3))
    rows = ((1777, 1541, 778), (871, 2929, 296), (73, 448, 3575))
    fx, fy, fz = (root[(cr * r + cg * g + cb * b + 2048) >> 12] for cr, cg, cb in rows)
    half, middle = 1 << 14, 128 << 15
    light = (296 * fy - 1336935 + half) >> 15
    red = (500 * (fx - fy) + middle + half) >> 15
    blue = (200 * (fy - fz) + middle + half) >> 15
    return np.stack([light, red, blue], axis=-1).clip(0, 255).astype(np.uint8)


_CONVERSIONS = {"RGB": lambda rgb: rgb, "HSV": _hsv, "LAB": _lab, "YUV": _yuv}
