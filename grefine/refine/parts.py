"""The bad places of a picture, each as a small mask in its box: many of them weigh no more than the picture itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grefine.types import Box


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
        left, top, right, bottom = self.box
        return float(values[top:bottom, left:right][self.inside].sum())

    def draw(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the place as a mask of the picture's `(H, W)`."""
        left, top, right, bottom = self.box
        mask = np.zeros(shape, dtype=bool)
        mask[top:bottom, left:right] = self.inside
        return mask


def connected_parts(mask: np.ndarray) -> list[MaskPart]:
    """Return the connected parts (8 neighbours) of a mask, in reading order."""
    from scipy.ndimage import find_objects, label

    labels, _ = label(mask, structure=np.ones((3, 3), dtype=int))  # pyright: ignore[reportGeneralTypeIssues]
    parts = []
    for index, (rows, columns) in enumerate(find_objects(labels), start=1):
        box = (columns.start, rows.start, columns.stop, rows.stop)
        parts.append(MaskPart(box, labels[rows, columns] == index))
    return parts


def split_large(part: MaskPart, limit: int) -> list[MaskPart]:
    """Cut a part whose box exceeds `limit` on a side into pieces on an even grid, so that no crop is shrunk."""
    left, top, right, bottom = part.box
    columns, rows = math.ceil((right - left) / limit), math.ceil((bottom - top) / limit)
    if columns * rows == 1:
        return [part]
    xs = np.linspace(0, right - left, columns + 1).round().astype(int)
    ys = np.linspace(0, bottom - top, rows + 1).round().astype(int)
    pieces = []
    for y0, y1 in zip(ys[:-1], ys[1:], strict=True):
        for x0, x1 in zip(xs[:-1], xs[1:], strict=True):
            if part.inside[y0:y1, x0:x1].any():
                pieces.append(_tight(part.inside[y0:y1, x0:x1], left + int(x0), top + int(y0)))
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


def _tight(inside: np.ndarray, left: int, top: int) -> MaskPart:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    y0, y1, x0, x1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    return MaskPart((left + x0, top + y0, left + x1, top + y1), inside[y0:y1, x0:x1])
