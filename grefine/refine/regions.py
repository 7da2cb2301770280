"""From a mask to a few crops: connected parts, grouped, with room around them, never shrunk."""

import math
from typing import Literal

import numpy as np

from grefine.types import Box

LARGEST_CROP = 1.5
"""How many working sides a crop may measure where its pieces would cost more than the whole."""
MARGIN = 0.125
"""Room round a part wider than the working side, in working sides."""


def binarise(values: np.ndarray, threshold: float | Literal["mean"]) -> np.ndarray:
    """Cut a map of badness into a mask, True = repaint. (Bi of Eq. 9)"""
    return values > values.mean() if threshold == "mean" else np.clip(values, 0.0, 1.0) > threshold


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Widen a mask by so many pixels in every direction."""
    from scipy.ndimage import distance_transform_edt

    if pixels < 1 or not mask.any():
        return mask
    return distance_transform_edt(~mask) <= pixels  # pyright: ignore[reportOperatorIssue]


def bounds(mask: np.ndarray) -> Box:
    """Return the tightest box round a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def crop_box(part: Box, size: tuple[int, int], context: float, smallest: int, largest: int) -> Box:
    """Give a part its crop: square where the picture allows it, with context around.

    Args:
        part: the tight box.
        size: the picture's height and width.
        context: room on each side as a share of the part's longer side.
        smallest: least side of a crop, so that little places are not blown up.
        largest: most side of a crop, unless the part is wider: it has a margin then, up to `LARGEST_CROP` times this.
    """
    height, width = size
    left, top, right, bottom = part
    longest = max(right - left, bottom - top)
    wanted = math.ceil(longest * (1.0 + 2.0 * context))
    roomy = min(longest + round(MARGIN * largest), round(LARGEST_CROP * largest))
    most = largest if longest <= largest else roomy
    side = min(max(wanted, smallest), most)
    x, span_x = _place((left + right) / 2, max(side, right - left), width)
    y, span_y = _place((top + bottom) / 2, max(side, bottom - top), height)
    return x, y, x + span_x, y + span_y


def _place(centre: float, span: int, limit: int) -> tuple[int, int]:
    span = min(span, limit)
    start = min(max(round(centre - span / 2), 0), limit - span)
    return start, span


def working_size(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """Return the height and width that a crop is denoised at: about side², same aspect, never below its own scale."""
    scale = max(side / math.sqrt(height * width), 1.0)

    def fit(edge: int) -> int:
        steps = max(1, round(edge * scale / multiple))
        return multiple * (steps if steps * multiple >= edge else steps + 1)

    return fit(height), fit(width)
