"""One look at the images for both maps, whole and in finer views; texts, encoded once; and how their features meet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from grefine.errors import ConfigError, ImageError
from grefine.indicators.grids import GridMap, Interpolation, tile_boxes
from grefine.indicators.readings import Readings
from grefine.models.clip_surgery import ClipSurgery
from grefine.types import Box, FeatureNorm

TILE_SCALE = 2
"""A tile covers so many times the CLIP's input side in image pixels."""
MOST_TILES = 4
"""Tiles along each side of a large picture, at most."""
REMEMBERED = 8192
"""Texts kept before the oldest are dropped."""
BATCH = 64


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
    readings: Readings = Readings(),
    side: int | None = None,
    tiles: int = MOST_TILES,
    batch_size: int = 8,
) -> Encoding:
    """Encode images of any sizes. (Eq. 1)"""
    _check(clip, images, side, tiles)

    def encode(pictures: Sequence[Image.Image], side: int | None) -> Tensor:
        features = torch.cat(
            [
                clip(
                    clip.preprocess_pil(pictures[start : start + batch_size], side),
                    attention=readings.attention,
                    surgery_layers=readings.surgery_layers,
                ).float()
                for start in range(0, len(pictures), batch_size)
            ]
        )
        if not bool(torch.isfinite(features).all()):
            raise ImageError(f"CLIP in {clip.dtype} gave values that are not finite: run it in float32.")
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


def fingerprint(*modules: nn.Module) -> tuple[object, ...]:
    """Return a key that changes when a module's weights are trained, loaded or cast; moving them changes nothing."""
    return tuple(
        (id(weight), 0 if weight.is_inference() else weight._version, weight.dtype)
        for module in modules
        for weight in module.parameters()
    )


class TextFeatures:
    """Normalised text features of a CLIP, cached by text."""

    def __init__(self, clip: ClipSurgery, tokenizer: Any) -> None:
        self.clip, self.tokenizer = clip, tokenizer
        self._cache: dict[str, Tensor] = {}
        self._key: object = None
        self._steady = 0

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return `(M, D)` float32 features of length one, in the order of `texts`."""
        if not self._steady:
            self._forget_if_trained()
        new = [text for text in dict.fromkeys(texts) if text not in self._cache]
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            self._cache |= dict(zip(part, self.encode(part), strict=True))
        features = torch.stack([self._cache[text] for text in texts])
        while len(self._cache) > REMEMBERED:
            self._cache.pop(next(iter(self._cache)))
        return features

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Look once whether the weights have changed, not again for every text: within it nobody trains them."""
        self._forget_if_trained()
        self._steady += 1
        try:
            yield
        finally:
            self._steady -= 1

    def _forget_if_trained(self) -> None:
        key = fingerprint(self.clip)
        if key != self._key:
            self._cache, self._key = {}, key

    def tokens(self, text: str) -> list[int]:
        """Return all token ids of a text, start and end included, however long."""
        ids = list(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])
        return ids if ids and ids[-1] == self.clip.eos_token_id else [*ids, self.clip.eos_token_id]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return `(M, D)` features of length one, encoded anew, with gradients where these are wanted."""
        end, most = self.clip.eos_token_id, self.clip.context_length
        rows = [self.tokens(text) for text in texts]
        rows = [row if len(row) <= most else [*row[: most - 1], end] for row in rows]
        length = max(map(len, rows))
        ids = torch.tensor([row + [end] * (length - len(row)) for row in rows])
        features = F.normalize(self.clip(ids=ids.to(self.clip.device)).float(), dim=-1)
        return F.normalize(features, dim=-1)  # twice: once alone leaves other last bits than were calibrated


def normalise_features(features: Tensor, how: FeatureNorm) -> Tensor:
    """Divide `(B, 1 + N, D)` features by their norm over the tokens of each channel, or the channels of each token."""
    dim = 1 if how == "token" else -1
    return features / features.norm(dim=dim, keepdim=True).clamp_min(1e-12)


def factor_logits(features: Tensor, prompts: Tensor, feature_norm: FeatureNorm) -> Tensor:
    """Return `(B, 1 + N, 4, 2)` logits of features against the `(4, 2, D)` prompts, good before bad. (Eq. 3)"""
    return torch.einsum("bnd,fsd->bnfs", normalise_features(features, feature_norm), prompts)


def plain(features: Tensor, texts: Tensor) -> Tensor:
    """Return `(B, 1 + N, M)` cosines of features and `(M, D)` texts."""
    return F.normalize(features, dim=-1) @ F.normalize(texts, dim=-1).T


def min_max(values: Tensor) -> Tensor:
    """Stretch the last two dimensions to 0..1; a constant grid has no best place and becomes 0.5 everywhere."""
    low, high = values.amin(dim=(-2, -1), keepdim=True), values.amax(dim=(-2, -1), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (values - low) / spread.clamp_min(torch.finfo(values.dtype).tiny), 0.5)
