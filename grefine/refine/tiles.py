"""Pictures too large for one pass: equal overlapping tiles that cost as little as can be, joined without a seam."""

import math
from collections.abc import Sequence

import numpy as np

from grefine.types import Box

LARGEST_PASS = 2.0
"""A pass holds at most the area of a square of so many working sides."""
LONGEST_PASS = 3.0
"""And measures at most so many working sides."""
OVERLAP = 0.125
"""What neighbouring tiles share at least, in working sides: enough latents to fade over."""
RAMP = 0.25
"""Share of a tile over which its weight falls off towards its border."""


def tile_boxes(height: int, width: int, working: int, multiple: int) -> list[Box]:
    """Return the boxes that cover a picture, row by row; one for a picture that a single pass holds.

    What tiles share is denoised twice: of all grids, the one with the fewest pixels is taken, then the fewest tiles.
    None is smaller than the `working` side of the model, unless the picture is, nor has to be resized (`multiple`).
    """
    costs = {}
    for rows in range(1, math.ceil(height / working) + 1):
        for columns in range(1, math.ceil(width / working) + 1):
            tall, wide = (tile_side(*cut, working, multiple) for cut in ((height, rows), (width, columns)))
            if tall * wide <= (LARGEST_PASS * working) ** 2 and max(tall, wide) <= LONGEST_PASS * working:
                costs[rows, columns] = (rows * columns * tall * wide, rows * columns)
    rows, columns = min(costs, key=lambda grid: costs[grid])
    return [
        (left, top, right, bottom)
        for top, bottom in spans(height, rows, working, multiple)
        for left, right in spans(width, columns, working, multiple)
    ]


def tile_side(length: int, count: int, working: int, multiple: int) -> int:
    """Return what each of `count` equal tiles measures that cover a side."""
    if count == 1:
        return length
    return math.ceil((length + (count - 1) * OVERLAP * working) / count / multiple) * multiple


def spans(length: int, count: int, working: int, multiple: int) -> list[tuple[int, int]]:
    """Cover a side with `count` equal tiles."""
    tile = tile_side(length, count, working, multiple)
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
