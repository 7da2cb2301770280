"""Pictures too large for one pass: as few overlapping tiles as a pass allows, joined without a seam."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from grefine.types import Box

LARGEST_PASS = 2.0
"""Pictures up to so many working sides are denoised in one pass, larger ones in tiles of at most so many."""
OVERLAP = 0.125
"""What neighbouring tiles share at least, in working sides: enough latents to fade over."""
RAMP = 0.25
"""Share of a tile over which its weight falls off towards its border."""


def tile_boxes(height: int, width: int, working: int, multiple: int) -> list[Box]:
    """Return the boxes that cover a picture, row by row; one for a picture that a single pass holds."""
    rows, columns = spans(height, working, multiple), spans(width, working, multiple)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def spans(length: int, working: int, multiple: int) -> list[tuple[int, int]]:
    """Cover a side with the fewest equal tiles: what tiles share is denoised twice, so fewer of them cost less.

    Args:
        length: the side in pixels.
        working: the side that the model was trained on.
        multiple: what sides of tiles are multiples of, so that no tile has to be resized.
    """
    longest = int(LARGEST_PASS * working)
    if length <= longest:
        return [(0, length)]
    shared = OVERLAP * working
    count = math.ceil((length - shared) / (longest - shared))
    even = (length + (count - 1) * shared) / count
    tile = min(math.ceil(even / multiple) * multiple, longest)
    starts = np.linspace(0, length - tile, count).round().astype(int)
    return [(int(start), int(start) + tile) for start in starts]


def join(shape: tuple[int, ...], tiles: Sequence[tuple[Box, np.ndarray]]) -> np.ndarray:
    """Join overlapping tiles into a picture `(H, W, 3)`, each fading out towards its borders."""
    if len(tiles) == 1:
        return tiles[0][1]
    total = np.zeros(shape, dtype=np.float64)
    weight = np.zeros((*shape[:2], 1), dtype=np.float64)
    for (left, top, right, bottom), tile in tiles:
        tent = _tent(bottom - top)[:, None, None] * _tent(right - left)[None, :, None]
        total[top:bottom, left:right] += tent * tile
        weight[top:bottom, left:right] += tent
    return (total / weight).astype(np.float32)


def _tent(length: int) -> np.ndarray:
    ramp = np.arange(1, length + 1)
    return np.minimum(np.minimum(ramp, ramp[::-1]) / max(length * RAMP, 1.0), 1.0)
