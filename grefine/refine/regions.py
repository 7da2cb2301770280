"""From a mask to a few crops with room around them, and from a picture too large for one pass to equal tiles."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects, label

from grefine.types import Box, place_of

LARGEST_CROP = 1.5
"""How many working sides a crop may measure where its pieces would cost more than the whole."""
MARGIN = 0.125
"""Room round a part wider than the working side, in working sides."""
LARGEST_PASS = 2.0
"""A pass holds at most the area of a square of so many working sides."""
LONGEST_PASS = 3.0
"""And measures at most so many working sides."""
OVERLAP = 0.125
"""What neighbouring tiles share at least, in working sides: enough latents to fade over."""


@dataclass(frozen=True)
class MaskPart:
    """One place."""

    box: Box
    """As tight as can be."""
    inside: np.ndarray
    """`(box height, box width)` bool."""

    @property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.inside))

    def total(self, values: np.ndarray) -> float:
        """Return the sum of a map `(H, W)` over the place."""
        return float(values[place_of(self.box)][self.inside].sum())

    def draw(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the place as a mask of the picture's `(H, W)`."""
        mask = np.zeros(shape, dtype=bool)
        mask[place_of(self.box)] = self.inside
        return mask


def connected_parts(mask: np.ndarray) -> list[MaskPart]:
    """Return the connected parts (8 neighbours) of a mask, in reading order."""
    labels, _ = label(mask, structure=np.ones((3, 3), dtype=int))  # pyright: ignore[reportGeneralTypeIssues]
    parts = []
    for index, (rows, columns) in enumerate(find_objects(labels), start=1):
        box = (columns.start, rows.start, columns.stop, rows.stop)
        parts.append(MaskPart(box, labels[rows, columns] == index))
    return parts


def split_large(part: MaskPart, limit: int) -> list[MaskPart]:
    """Cut a part whose box exceeds `limit` on a side into pieces on an even grid, so that no crop is shrunk."""
    left, top = part.box[:2]
    height, width = part.inside.shape
    columns, rows = math.ceil(width / limit), math.ceil(height / limit)
    if columns * rows == 1:
        return [part]
    xs = np.linspace(0, width, columns + 1).round().astype(int)
    ys = np.linspace(0, height, rows + 1).round().astype(int)
    pieces = []
    for y0, y1 in zip(ys[:-1], ys[1:], strict=True):
        for x0, x1 in zip(xs[:-1], xs[1:], strict=True):
            inside = part.inside[y0:y1, x0:x1]
            if inside.any():
                x, y, right, bottom = bounds(inside)
                x_at, y_at = left + int(x0), top + int(y0)
                pieces.append(MaskPart((x_at + x, y_at + y, x_at + right, y_at + bottom), inside[y:bottom, x:right]))
    return pieces


def joined(parts: Sequence[MaskPart]) -> MaskPart:
    """Return several parts as one."""
    if len(parts) == 1:
        return parts[0]
    left, top, right, bottom = union([part.box for part in parts])
    inside = np.zeros((bottom - top, right - left), dtype=bool)
    for part in parts:
        x, y, x1, y1 = part.box
        inside[y - top : y1 - top, x - left : x1 - left] |= part.inside
    return MaskPart((left, top, right, bottom), inside)


def union(boxes: Sequence[Box]) -> Box:
    """Return the box round several."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def area(box: Box) -> int:
    """Return how many pixels a box holds."""
    return (box[2] - box[0]) * (box[3] - box[1])


def widest(box: Box) -> int:
    """Return the longer side of a box."""
    return max(box[2] - box[0], box[3] - box[1])


def bounds(mask: np.ndarray) -> Box:
    """Return the tightest box round a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def binarise(values: np.ndarray, threshold: float | Literal["mean"]) -> np.ndarray:
    """Cut a map of badness into a mask, True = repaint. (Bi of Eq. 9)"""
    return values > values.mean() if threshold == "mean" else np.clip(values, 0.0, 1.0) > threshold


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Widen a mask by so many pixels in every direction."""
    if pixels < 1 or not mask.any():
        return mask
    return distance_transform_edt(~mask) <= pixels  # pyright: ignore[reportOperatorIssue]


def crop_box(part: Box, size: tuple[int, int], context: float, smallest: int, largest: int) -> Box:
    """Give a part, in its tight box, its crop: square where the picture allows it, with `context` around.

    It measures `smallest` at least and `largest` at most, or a wider part with a margin, up to `LARGEST_CROP` of that.
    """
    height, width = size
    left, top, right, bottom = part
    longest = max(right - left, bottom - top)
    wanted = math.ceil(longest * (1.0 + 2.0 * context))
    roomy = min(longest + round(MARGIN * largest), round(LARGEST_CROP * largest))
    most = largest if longest <= largest else roomy
    side = min(max(wanted, smallest), most)

    def place(start: int, end: int, limit: int) -> tuple[int, int]:
        span = min(max(side, end - start), limit)
        first = min(max(round((start + end) / 2 - span / 2), 0), limit - span)
        return first, first + span

    (x, x_end), (y, y_end) = place(left, right, width), place(top, bottom, height)
    return x, y, x_end, y_end


def working_size(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """Return the height and width that a crop is denoised at: about side², same aspect, never below its own scale."""
    scale = max(side / math.sqrt(height * width), 1.0)

    def fit(edge: int) -> int:
        steps = max(1, round(edge * scale / multiple))
        return multiple * (steps if steps * multiple >= edge else steps + 1)

    return fit(height), fit(width)


def tile_boxes(height: int, width: int, working: int, multiple: int) -> list[Box]:
    """Return the boxes that cover a picture, row by row, in the grid of the fewest pixels; shared ones count twice."""
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


def working_side(unet: Any, vae: Any) -> int:
    """Return the side in pixels that a UNet was trained at, from its configuration and that of its autoencoder."""
    return unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
