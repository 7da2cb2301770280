"""One look at the images for both maps: CLIP features of the whole, and of finer views where they are wanted."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError, ImageError
from grefine.indicators.grids import GridMap, Interpolation, tile_boxes
from grefine.models.clip_surgery import ClipSurgery
from grefine.types import Attention, Box

TILE_SCALE = 2
"""A tile covers so many times the CLIP's input side in image pixels."""
MOST_TILES = 4
"""Tiles along each side of a large picture, at most."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """What CLIP saw in a batch of images; PQ-Map and AQ-Map read the same one."""

    whole: Tensor
    """`(B, 1 + N, D)` float32 features of the whole images at the native side: scores come from here."""
    sizes: tuple[tuple[int, int], ...]
    """Width and height of each image."""
    views: tuple[tuple[tuple[Box, Tensor], ...], ...]
    """Per image what its map is drawn from, first the whole, then tiles: boxes with their `(1 + N, D)` features, class
    token first."""
    grid: tuple[int, int]
    """Rows and columns of patches of every view."""

    def __len__(self) -> int:
        return len(self.sizes)

    def grid_map(self, index: int, values: Sequence[Tensor], interpolation: Interpolation) -> GridMap:
        """Put one value per patch of each view of image `index` together as a map."""
        patches = tuple(
            (box, cells.reshape(self.grid).float().cpu().numpy())
            for (box, _), cells in zip(self.views[index], values, strict=True)
        )
        return GridMap(patches, self.sizes[index], interpolation)


@torch.no_grad()
def encode_images(
    clip: ClipSurgery,
    images: Sequence[Image.Image],
    *,
    side: int | None = None,
    tiles: int = MOST_TILES,
    batch_size: int = 8,
    attention: Attention = "usual",
    surgery_layers: int | None = None,
) -> Encoding:
    """Encode images of any sizes; the last two arguments are readings of Eq. 1."""
    _check(clip, images, side, tiles)

    def encode(pictures: Sequence[Image.Image], side: int | None) -> Tensor:
        features = torch.cat(
            [
                clip(
                    clip.preprocess_pil(pictures[start : start + batch_size], side),
                    attention=attention,
                    surgery_layers=surgery_layers,
                ).float()
                for start in range(0, len(pictures), batch_size)
            ]
        )
        if not bool(torch.isfinite(features).all()):
            raise ImageError(
                f"CLIP in {clip.dtype} gave values that are not finite; run it in float32 or bfloat16 "
                "(`clip.to(torch.float32)`), or check its weights."
            )
        return features

    sizes = tuple(image.size for image in images)
    whole = encode(images, None)
    view_side = side or clip.side
    boxes = [tile_boxes(size, TILE_SCALE * clip.side, tiles) for size in sizes]
    first = whole if view_side == clip.side else encode(images, view_side)
    colours = (image.convert("RGB") for image in images)  # once an image, not once a tile
    crops = [image.crop(box) for image, own in zip(colours, boxes, strict=True) for box in own]
    fine = iter(encode(crops, view_side) if crops else ())
    views = tuple(
        (((0, 0, *size), first[index]), *((box, next(fine)) for box in boxes[index]))
        for index, size in enumerate(sizes)
    )
    return Encoding(whole, sizes, views, (view_side // clip.patch, view_side // clip.patch))


def _check(clip: ClipSurgery, images: Sequence[Image.Image], side: int | None, tiles: int) -> None:
    if isinstance(images, Image.Image) or not images or not all(isinstance(one, Image.Image) for one in images):
        raise ImageError("Expected a non-empty list of PIL images; PIL.Image.fromarray makes them of arrays.")
    if side is not None and (side < clip.patch or side % clip.patch):
        raise ConfigError(f"side must be a multiple of this CLIP's patch size {clip.patch}, not {side}.")
    if tiles < 1:
        raise ConfigError(f"tiles must be at least 1 (the whole image only), not {tiles}.")
