"""Maps as they are computed, on grids of patches, and as they are looked at, in pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from grefine.types import Box, PhraseAlignment

Interpolation = Literal["bilinear", "bicubic"]
ROOM = 2.0
"""Radii round the centre of a place for a thing that should be free of others."""
FINE = 12
"""Cells along a side from which a grid can say how large a thing is."""
OVERLAP = 0.25
"""Share of a tile that it has in common with its neighbour."""


@dataclass(frozen=True, slots=True)
class GridMap:
    """One map as grids of a few hundred numbers; `draw` makes it as large as the image."""

    patches: tuple[tuple[Box, np.ndarray], ...]
    """Boxes in pixels with their grids; the first covers the whole image, tiles follow."""
    size: tuple[int, int]
    """Width and height of the image."""
    interpolation: Interpolation = "bilinear"

    def draw(self) -> np.ndarray:
        """Return the `(H, W)` float32 map, clamped to 0..1."""
        rows, columns = self.mixing()
        return np.clip(rows @ self.cells() @ columns.T, 0.0, 1.0)

    def mixing(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how rows and columns of pixels are mixed from those of `cells`: a map is one product of matrices."""
        (_, whole), *tiles = self.patches
        own = ((0, 0, *self.size), whole.shape)
        boxes = tuple(box for box, _ in tiles)
        return _mixing(own, boxes, tiles[0][1].shape if tiles else (0, 0), self.interpolation)

    def cells(self) -> np.ndarray:
        """Return all grids in one: the whole's and, below and right of it, the tiles' side by side, half of each."""
        (_, whole), *tiles = self.patches
        if not tiles:
            return whole.astype(np.float32, copy=False)
        across = len({box[0] for box, _ in tiles})
        sheet = np.block([[grid for _, grid in tiles[at : at + across]] for at in range(0, len(tiles), across)])
        height, width = whole.shape
        found = np.zeros((height + sheet.shape[0], width + sheet.shape[1]), np.float32)
        found[:height, :width] = 0.5 * whole
        found[height:, width:] = 0.5 * sheet
        return found

    def apply(self, function: Callable[..., np.ndarray], *others: GridMap) -> GridMap:
        """Return the map with `function` applied to every grid, and to those of `others` at the same places."""
        rows = zip(*(one.patches for one in (self, *others)), strict=True)
        return replace(self, patches=tuple((row[0][0], function(*(grid for _, grid in row))) for row in rows))

    def outside(self, other: GridMap, threshold: float) -> GridMap:
        """Return the map, zero where `other`, on the same grids, is above the threshold."""
        return self.apply(lambda grid, near: np.where(near > threshold, 0.0, grid), other)

    def beyond(self, ground: GridMap, threshold: float) -> GridMap:
        """Return the map, zero where `ground` is above the threshold, or, on a fine grid, no less."""
        if min(self.patches[0][1].shape) < FINE:
            return self.outside(ground, threshold)
        return self.apply(lambda grid, below: np.where((below > threshold) | (grid <= below), 0.0, grid), ground)

    def touching(self, other: GridMap, threshold: float) -> GridMap:
        """Return the map without its areas above the threshold that touch none of `other`, or whole if none does."""
        kept = self.apply(lambda grid, near: _reached(grid > threshold, near > threshold), other)
        if not kept.patches[0][1].any():
            return self
        return self.apply(lambda grid, near: np.where((grid > threshold) & ~near, 0.0, grid), kept)

    def one_place(
        self, claims: Sequence[GridMap], threshold: float, radius: float, ground: GridMap | None = None
    ) -> GridMap:
        """Return a round place where no claim lies: 1 at its centre, 0.5 at its own radius, `radius` at the most."""
        free = [
            np.logical_and.reduce([claim.patches[i][1] <= threshold for claim in claims] or [np.ones_like(grid, bool)])
            for i, (_, grid) in enumerate(self.patches)
        ]
        if not free[0].any():
            return self.apply(np.zeros_like)
        at = [self._centres(box, grid.shape) for box, grid in self.patches]
        look, centres = self.patches[0][1], at[0].reshape(-1, 2)
        apart = np.hypot(*(at[0].reshape(-1, 1, 2) - at[0].reshape(1, -1, 2)).transpose(2, 0, 1))
        fine, seen = min(look.shape) >= FINE, free[0] & (look > threshold)
        if seen.any():  # where the map is highest; on a fine grid as large as what is seen there
            likely = np.where(free[0], look - look[free[0]].min() + 1e-6, 0.0)
            # Maps are blurred: beside another thing of its colour, not round it.
            near = apart <= radius
            likeliest = near @ np.where(free[0], likely, -2 * likely.max()).ravel()
            centre = centres[np.where(near @ seen.ravel(), likeliest, -np.inf).argmax()]
            if fine:
                near = (np.hypot(*(at[0] - centre).transpose(2, 0, 1)) <= radius) & seen
                seen = _reached(seen, near)
                weights = likely * near if near.any() else likely
                centre, radius = weights.ravel() @ centres / weights.sum(), self._radius([seen], radius)
        else:  # nothing free looks like it: where there is room for it and all round it, its foot on the ground
            radius = self._radius([claim.patches[0][1] > threshold for claim in claims] if fine else [], radius)
            room = (apart <= ROOM * radius) @ np.where(free[0], 1.0 + look, 0.0).ravel()
            room -= room.max() * ((apart <= radius) @ ~free[0].ravel())
            standing = (free[0] & self._over(ground, threshold, radius)).ravel() if ground else np.zeros(1, bool)
            centre = centres[(np.where(standing, room, -np.inf) if standing.any() else room).argmax()]
        grids = [
            (np.clip(1.0 - np.hypot(*(cells - centre).transpose(2, 0, 1)) / (2 * radius), 0.0, 1.0) * kept)
            for cells, kept in zip(at, free, strict=True)
        ]
        pairs = zip(self.patches, grids, strict=True)
        return replace(self, patches=tuple((box, grid.astype(np.float32)) for (box, _), grid in pairs))

    def _over(self, ground: GridMap, threshold: float, radius: float) -> np.ndarray:
        """Return which cells of the whole's grid are this far above a cell that the ground claims."""
        claimed = ground.patches[0][1] > threshold
        down = round(radius * min(self.size) / self.size[1] * len(claimed))
        return np.vstack([claimed[down:], np.zeros_like(claimed[:down])])

    def _radius(self, areas: Sequence[np.ndarray], most: float) -> float:
        """Return the mean radius of things that cover these cells, in shorter sides: from half of `most` to `most`."""
        if not areas:
            return most
        shape = self.size[0] * self.size[1] / min(self.size) ** 2
        radius = np.mean([math.sqrt(area.mean() * shape / math.pi) for area in areas])
        return float(np.clip(radius, most / 2, most))

    def _centres(self, box: Box, shape: tuple[int, ...]) -> np.ndarray:
        """Return `(h, w, 2)` centres of a grid's cells, in shorter sides of the image."""
        left, top, right, bottom = box
        y = top + (np.arange(shape[0]) + 0.5) * (bottom - top) / shape[0]
        x = left + (np.arange(shape[1]) + 0.5) * (right - left) / shape[1]
        return np.stack(np.meshgrid(x, y), -1) / min(self.size)

    def stretched(self) -> GridMap:
        """Return the map with its values stretched to 0..1 over all grids; 0.5 where all are equal."""
        low = min(float(grid.min()) for _, grid in self.patches)
        high = max(float(grid.max()) for _, grid in self.patches)
        if high <= low:
            return self.apply(lambda grid: np.full_like(grid, 0.5))
        return self.apply(lambda grid: (grid - low) / (high - low))


def _lazily(name: str) -> Any:
    """Return a property whose map, given as `GridMap` or drawn already, is drawn when it is read."""

    def read(self: Any) -> np.ndarray | None:
        value = getattr(self, name)
        return value.draw() if isinstance(value, GridMap) else value

    return property(read, lambda self, value: object.__setattr__(self, name, value))


class GridPhraseAlignment(PhraseAlignment):
    """A phrase's alignment whose region and claim are drawn only when they are read."""

    __slots__ = ("_claimed", "_region")
    region = _lazily("_region")
    claimed = _lazily("_claimed")


def resize(grid: np.ndarray, height: int, width: int, interpolation: Interpolation) -> np.ndarray:
    """Resize a grid to `(height, width)`, pixel centres aligned (never corners)."""
    source = torch.from_numpy(np.ascontiguousarray(grid, dtype=np.float32))[None, None]
    return F.interpolate(source, (height, width), mode=interpolation, align_corners=False)[0, 0].numpy()


@lru_cache(maxsize=8)
def _mixing(
    whole: tuple[Box, tuple[int, int]], boxes: tuple[Box, ...], cells: tuple[int, int], interpolation: Interpolation
) -> tuple[np.ndarray, np.ndarray]:
    (_, _, width, height), shape = whole
    found = []
    for axis, length in ((1, height), (0, width)):
        strips = [_spread_cells(length, shape[1 - axis], interpolation)]
        weights = np.zeros((length, 1), np.float32)
        for start, end in sorted({(box[axis], box[axis + 2]) for box in boxes}):
            # Weights fall towards both ends, so that neighbouring tiles fade into each other.
            distance = np.minimum(np.arange(end - start), np.arange(end - start)[::-1]) + 1.0
            ramp = np.minimum(distance / max(1.0, OVERLAP * (end - start)), 1.0).astype(np.float32)[:, None]
            strips.append(np.zeros((length, cells[1 - axis]), np.float32))
            strips[-1][start:end] = ramp * _spread_cells(end - start, cells[1 - axis], interpolation)
            weights[start:end] += ramp
        found.append(np.concatenate([strips[0], *(strip / weights for strip in strips[1:])], 1))
    return found[0], found[1]


def _spread_cells(length: int, cells: int, interpolation: Interpolation) -> np.ndarray:
    """Return `(length, cells)`: how each of so many pixels is interpolated."""
    return resize(np.eye(cells, dtype=np.float32), length, cells, interpolation)


class Place:
    """Part of a picture in which many maps are averaged, on their grids: none of them is drawn."""

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask
        self._weights: dict[tuple[Box, ...], np.ndarray] = {}

    def mean(self, shown: GridMap | np.ndarray) -> float:
        """Return the mean of a map in this place."""
        if not isinstance(shown, GridMap) or shown.interpolation != "bilinear":
            drawn = shown.draw() if isinstance(shown, GridMap) else shown
            return float(drawn[self.mask].mean())
        boxes = tuple(box for box, _ in shown.patches)
        if boxes not in self._weights:
            rows, columns = shown.mixing()
            down, across = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
            at = np.s_[down[0] : down[-1] + 1], np.s_[across[0] : across[-1] + 1]
            own = self.mask[at].astype(np.float32)
            self._weights[boxes] = rows[at[0]].T @ own @ columns[at[1]] / own.sum(dtype=np.float64)
        return float((self._weights[boxes] * shown.cells()).sum())


def undrawn(aligned: PhraseAlignment, name: str) -> GridMap | np.ndarray | None:
    """Return a phrase's `region` or `claimed` without drawing it, where it is not drawn yet."""
    return getattr(aligned, f"_{name}" if isinstance(aligned, GridPhraseAlignment) else name)


def _reached(area: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return the cells of `area` that a chain of neighbours, corners included, joins to `start`."""
    return ndimage.binary_propagation(start, np.ones((3, 3)), mask=area) & area


def tile_boxes(size: tuple[int, int], tile: int, most: int) -> list[Box]:
    """Cover an image that is clearly larger than one tile with overlapping tiles, at most `most` along each side."""
    width, height = size
    columns, rows = (_spread(length, tile, most) for length in (width, height))
    if len(columns) == len(rows) == 1:
        return []
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _spread(length: int, tile: int, most: int) -> Sequence[tuple[int, int]]:
    shared = OVERLAP * tile
    count = min(max(1, round((length - shared) / (tile - shared))), max(most, 1))
    piece = length / (count - OVERLAP * (count - 1))
    starts = [round(index * (1 - OVERLAP) * piece) for index in range(count)]
    return [(start, length if start == starts[-1] else min(length, round(start + piece))) for start in starts]
