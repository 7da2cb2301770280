"""Put repainted pixels back: only inside the mask, in the colours of their surroundings, without a seam."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter, uniform_filter
from torch import Tensor

from grefine.types import Box, place_of

GRAIN = 0.03
"""Share of the longer side over which changes are averaged and blended."""
RAMP = 0.25
"""Share of a tile over which its weight falls off towards its border."""


def to_tensor(image: np.ndarray) -> Tensor:
    """Return `(3, H, W)` float32 in 0..1 of a picture in 0..255."""
    return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255.0


def to_pixels(image: Tensor) -> np.ndarray:
    """Return `(H, W, 3)` in 0..255, not rounded, of a tensor in 0..1."""
    return (image * 255).permute(1, 2, 0).numpy()


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize `(H, W, 3)` with values in 0..255 by antialiased bicubic; the same size comes back untouched."""
    if image.shape[:2] == (height, width):
        return image
    planes = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, (height, width), mode="bicubic", antialias=True).clamp(0, 255)
    return resized[0].permute(1, 2, 0).numpy()


def rounded(image: np.ndarray) -> np.ndarray:
    """Return a picture in 8 bits; one that is already comes back as it is."""
    return image if image.dtype == np.uint8 else np.clip(np.rint(image), 0, 255).astype(np.uint8)


def changed_share(before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of pixels that are not as they were, in 8 bits."""
    return 0.0 if after is before else float((rounded(after) != rounded(before)).any(axis=2).mean())


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a mask so that no masked pixel is lost: a cell is masked if any of its pixels is."""
    if mask.shape == (height, width):
        return mask
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((width, height), Image.Resampling.BOX)) > 0


def feather_inside(mask: np.ndarray, share: float) -> np.ndarray:
    """Return blending weights: 0 outside the mask, rising to 1 over `share` of the mask's half thickness."""
    if share <= 0.0 or not mask.any() or mask.all():
        return mask.astype(np.float64)
    # A padded border of True keeps the picture's edge from counting as the mask's edge.
    padded = np.pad(mask, 1, mode="edge")
    depth = distance_transform_edt(padded)[1:-1, 1:-1]  # pyright: ignore[reportOptionalSubscript]
    ramp = max(depth.max() * share, 1.0)
    return np.clip(depth / ramp, 0.0, 1.0) * mask


def changed_part(old: np.ndarray, new: np.ndarray, least: float) -> np.ndarray:
    """Return where pictures differ by `least` (0..1) or more round a pixel: what is left alone comes back softer."""
    if least <= 0.0:
        return np.ones(old.shape[:2], dtype=bool)
    window = 2 * grain(old) + 1
    change = uniform_filter(np.abs(new.astype(np.float64) - old).mean(2) / 255.0, window, mode="nearest")
    return maximum_filter(change, window, mode="nearest") >= least


def paste(
    old: np.ndarray, crop: np.ndarray, mask: np.ndarray, feather: float, match_ring: bool, least_change: float = 0.0
) -> np.ndarray:
    """Return a float32 copy of `old` with `crop` blended in where `mask` is True; other pixels keep their value.

    It fades in over `feather` of the mask's half thickness; with `match_ring` it gets the colour of the ring round the
    mask; what changes by less than `least_change` (0..1) stays exactly as it was.
    """
    new = crop.astype(np.float64)
    if match_ring and mask.any() and not mask.all():
        width = round(0.06 * max(mask.shape)) + 1
        ring = ~mask & (distance_transform_edt(~mask) <= width)  # pyright: ignore[reportOperatorIssue]
        new = new + np.median(old[ring].astype(np.float64) - new[ring], axis=0)
    mask = mask & changed_part(old, new, least_change)
    weight = feather_inside(mask, feather)[..., None]
    blended = np.clip(weight * new + (1.0 - weight) * old, 0, 255).astype(np.float32)
    return np.where(mask[..., None], blended, old.astype(np.float32))


def join_tiles(shape: tuple[int, ...], tiles: Sequence[tuple[Box, np.ndarray]]) -> np.ndarray:
    """Join overlapping tiles into a picture `(H, W, 3)`, each fading out towards its borders."""
    if len(tiles) == 1:
        return tiles[0][1]
    total = np.zeros(shape, dtype=np.float64)
    weight = np.zeros((*shape[:2], 1), dtype=np.float64)
    for box, tile in tiles:
        tent = _tent(tile.shape[0])[:, None, None] * _tent(tile.shape[1])[None, :, None]
        total[place_of(box)] += tent * tile
        weight[place_of(box)] += tent
    return (total / weight).astype(np.float32)


def _tent(length: int) -> np.ndarray:
    ramp = np.arange(1, length + 1)
    return np.minimum(np.minimum(ramp, ramp[::-1]) / max(length * RAMP, 1.0), 1.0)


def smooth_fill(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Continue the surroundings into the mask, without structure: a blank for the repainter, not an answer."""
    if not mask.any() or mask.all():
        return image
    known = (~mask).astype(np.float64)
    colours = image.astype(np.float64) * known[..., None]
    filled = np.zeros_like(colours)
    done = np.zeros(mask.shape, dtype=bool)
    sigma = 1.0
    # Normalised convolution at growing scales: near the border the finest scale that sees known pixels decides.
    while not done.all():
        weight = gaussian_filter(known, sigma, mode="nearest", truncate=3.0)
        seen = (weight > 1e-3) & ~done
        if seen.any():
            blurred = gaussian_filter(colours, (sigma, sigma, 0), mode="nearest", truncate=3.0)
            filled[seen] = blurred[seen] / weight[seen, None]
            done |= seen
        if sigma > 2 * max(mask.shape):
            filled[~done] = image[~mask].mean(axis=0)
            break
        sigma *= 2.0
    result = image.copy()
    smoothed = gaussian_filter(np.where(mask[..., None], filled, image), (1.5, 1.5, 0), mode="nearest")
    result[mask] = np.clip(np.rint(smoothed[mask]), 0, 255).astype(np.uint8)
    return result


def match_low_frequencies(new: np.ndarray, old: np.ndarray, side: int | None = None) -> np.ndarray:
    """Return `new` with the slow colour and light of `old`; slow is measured by `side`, or by the longer side."""
    sigma = (side or max(new.shape[:2])) / 16
    slow = gaussian_filter(old.astype(np.float64) - new.astype(np.float64), (sigma, sigma, 0), mode="nearest")
    return np.clip(new + slow, 0, 255).astype(np.float32)


def local_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return `(H, W)`: the root-mean-square change (0..1) of two pictures in 0..255 round every pixel."""
    squared = ((after.astype(np.float32) - before) / 255.0) ** 2
    return np.sqrt(uniform_filter(squared.mean(2), 2 * grain(before) + 1, mode="nearest"))


def fade_out(mask: np.ndarray) -> np.ndarray:
    """Return blending weights: 1 inside the mask, falling to 0 just outside of it."""
    if mask.all() or not mask.any():
        return mask.astype(np.float32)
    distance = np.asarray(distance_transform_edt(~mask))
    return np.clip(1.0 - distance / (2 * grain(mask) + 1), 0.0, 1.0).astype(np.float32)


def grain(picture: np.ndarray) -> int:
    """Return the distance in pixels below which two places of a picture `(H, W, ...)` count as one."""
    return round(GRAIN * max(picture.shape[:2]))
