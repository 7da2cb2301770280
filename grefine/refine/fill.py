"""Replace what a region shows before something else is drawn there."""

import numpy as np


def smooth_fill(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Continue the surroundings into the mask, without structure: a blank for the repainter, not an answer."""
    from scipy.ndimage import gaussian_filter

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
