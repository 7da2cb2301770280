"""Stage 2: mild restoration of the whole picture, or of its repaired places alone. (Eq. 9, second line)"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from grefine.errors import ConfigError, ImageError, nearest
from grefine.refine.composite import fade_out, local_change, match_low_frequencies, paste, rounded
from grefine.refine.denoise import Backbone, latent_multiple
from grefine.refine.job import Job
from grefine.refine.regions import working_size
from grefine.refine.repaint import Encode, Piece, Repainter, SDXLRepainter, batch_limit
from grefine.refine.seeds import derive
from grefine.refine.settings import RefineConfig
from grefine.refine.tiles import join, tile_boxes
from grefine.types import Box, QualityMap

RESTORERS = ("inpaint", "controlnet-tile", "refiner", "none")
Restore = Callable[..., Image.Image]
"""`restore(image, prompt=..., strength=..., generator=...) -> image`: your own stage 2."""
Spare = Callable[[Sequence[Job], Sequence[np.ndarray]], list[np.ndarray]]
"""Gives restored pictures their old pixels back where they were good and were not made better."""
VISIBLE = 0.01
"""Root-mean-square change round a pixel (0..1) that can be seen: less than 40 dB."""


@dataclass
class CallableRestorer:
    """Anyone's function as stage 2."""

    function: Restore
    name: str = "your restorer"

    def __call__(self, pieces: Sequence[Piece], stage: str) -> list[np.ndarray]:
        """Hand over one picture after the other."""
        del stage
        done = []
        for piece in pieces:
            generator = torch.Generator().manual_seed(piece.seed)
            given = Image.fromarray(rounded(piece.pixels))
            image = self.function(given, prompt=piece.prompt, strength=piece.strength, generator=generator)
            if not isinstance(image, Image.Image) or image.size != piece.mask.shape[::-1]:
                what = image.size if isinstance(image, Image.Image) else type(image).__name__
                raise ImageError(
                    f"{self.name} returned {what} for a picture of {piece.mask.shape[::-1]}: a restorer gives a "
                    "PIL image of the size that it was given."
                )
            done.append(np.asarray(image.convert("RGB")))
        return done


def choose_restorer(chosen: str | Restore, sdxl: SDXLRepainter, refiner: Restore | None = None) -> Repainter | None:
    """Return the stage 2 that a name or a callable means; None for "none".

    Raises:
        ConfigError: an unknown name, or one whose weights are not loaded.
    """
    if callable(chosen):
        return CallableRestorer(chosen)
    if chosen == "none":
        return None
    if chosen == "inpaint":
        return sdxl
    if chosen == "controlnet-tile":
        if sdxl.pipe.controlnet is None:
            raise ConfigError(
                "restorer 'controlnet-tile' needs the component controlnet (an SDXL tile ControlNet), and this "
                "pipeline has none: load it with `controlnet=...`, or choose restorer='inpaint' or 'none'."
            )
        return replace(sdxl, control=True)
    if chosen == "refiner":
        if refiner is None:
            raise ConfigError(
                "restorer 'refiner' needs an SDXL refiner: give a loaded StableDiffusionXLImg2ImgPipeline to "
                "`pipe.use_refiner(...)` first, or choose restorer='inpaint'."
            )
        return CallableRestorer(refiner, "the SDXL refiner")
    raise ConfigError(f"Unknown restorer '{chosen}': choose {', '.join(RESTORERS)}{nearest(chosen, RESTORERS)}")


def restore_pictures(
    jobs: Sequence[Job],
    restorer: Repainter,
    pipe: Backbone,
    config: RefineConfig,
    working: int,
    encode: Encode,
    spare: Spare,
) -> dict[int, np.ndarray]:
    """Return the restored pictures by position in `jobs`; `spare` gives good places their old pixels back."""
    done = _restore_views(jobs, restorer, pipe, config, working, encode)
    if config.preserve == "exact" or not done:
        return done
    return dict(zip(done, spare([jobs[i] for i in done], list(done.values())), strict=True))


def keep_good_places(
    job: Job, restored: np.ndarray, after: QualityMap | None, good: np.ndarray, config: RefineConfig
) -> np.ndarray:
    """Return the restored picture with its old pixels wherever a good place was not made better, without a seam.

    A good place has nothing to be mended: it keeps its pixels where its quality fell by more than noise, and where
    the change can be seen although its quality did not rise.

    Args:
        job: the picture as it was before stage 2.
        restored: `(H, W, 3)` in 0..255.
        after: the quality map of `restored`; None when it cannot be drawn, so that no place is known to be better.
        good: `(H, W)` bool, where nothing was wrong before.
        config: the settings; `guard_resolution` is the noise of the map.
    """
    noise = config.guard_resolution or 0.0
    gain = np.zeros(good.shape) if after is None else after.values - job.quality.values
    seen = local_change(job.current, restored) > VISIBLE
    harmed = good & ((gain < -noise) | (seen & (gain <= noise)))
    weight = fade_out(harmed)[..., None]
    blended = (1.0 - weight) * restored + weight * job.current
    return np.where(harmed[..., None], job.current, blended).astype(np.float32)


def refiner_of(img2img: Any, steps: int) -> Restore:
    """Make a restorer of a loaded image-to-image pipeline, running exactly `steps` steps."""

    def restore(image: Image.Image, prompt: str, strength: float, generator: torch.Generator) -> Image.Image:
        total = math.ceil(steps / strength - 1e-9)
        output = img2img(prompt=prompt, image=image, strength=strength, num_inference_steps=total, generator=generator)
        return output.images[0].resize(image.size, Image.Resampling.LANCZOS)

    return restore


def views_of(job: Job, config: RefineConfig, working: int, multiple: int) -> list[Box]:
    """Return the boxes that stage 2 looks at: the repaired places (`exact`), or the whole picture in one or more."""
    if config.preserve == "exact":
        return [region.box for region in job.plan.regions]
    return tile_boxes(*job.pixels.shape[:2], working, multiple)


def restore_room(config: RefineConfig, working: int) -> float:
    """Return the pixels that a batch of stage 2 may hold: its large tiles take no more memory than stage 1's crops.

    A guided step sees every crop twice, so an unguided one has room for twice the area.
    """
    return config.batch_size * working**2 * (1.0 if config.restore_guidance_scale > 1.0 else 2.0)


def expected_batches(jobs: Sequence[Job], config: RefineConfig, working: int, multiple: int) -> int:
    """Return how many batches stage 2 will denoise, one picture's words being as long as another's."""
    views = [box for job in jobs for box in views_of(job, config, working, multiple)]
    sizes = Counter(working_size(bottom - top, right - left, working, multiple) for left, top, right, bottom in views)
    room = restore_room(config, working)
    return sum(math.ceil(n / batch_limit(size, config.batch_size, room)) for size, n in sizes.items())


def _restore_views(
    jobs: Sequence[Job], restorer: Repainter, pipe: Backbone, config: RefineConfig, working: int, encode: Encode
) -> dict[int, np.ndarray]:
    pieces, owners = [], []
    multiple = latent_multiple(pipe)
    for position, job in enumerate(jobs):
        words = encode(job, job.plan.prompt, job.plan.token_weights)
        for index, box in enumerate(views_of(job, config, working, multiple)):
            left, top, right, bottom = box
            size = working_size(bottom - top, right - left, working, multiple)
            pixels = job.current[top:bottom, left:right]
            everything = np.ones(pixels.shape[:2], dtype=bool)
            seed = derive(job.seed, "restore", *box)
            pieces.append(
                Piece(
                    job,
                    index,
                    pixels,
                    everything,
                    size,
                    job.plan.prompt,
                    words,
                    config.delta,
                    seed,
                    shown=bool(config.show_damage),
                    mended=bool(config.show_damage),
                )
            )
            owners.append((position, box))
    crops = restorer(pieces, "restore")
    tiled = {id(piece.job) for piece in pieces if config.preserve == "paper" and piece.index > 0}
    matched = []
    for crop, piece in zip(crops, pieces, strict=True):
        # Tiles of one picture must not drift apart, however large they are.
        side = working if id(piece.job) in tiled else None
        matched.append(match_low_frequencies(crop, piece.pixels, side))
    restored = {}
    for position, job in enumerate(jobs):
        views = [(box, crop) for (owner, box), crop in zip(owners, matched, strict=True) if owner == position]
        if views and config.preserve == "exact":
            restored[position] = _put_back(job, views, config)
        elif views:
            restored[position] = join(job.pixels.shape, views)
    return restored


def _put_back(job: Job, views: Sequence[tuple[Box, np.ndarray]], config: RefineConfig) -> np.ndarray:
    """Take the restored pixels inside the mask only."""
    result = job.current
    for (box, crop), region in zip(views, job.plan.regions, strict=True):
        result = paste(result, crop, box, region.mask, config.feather, match_ring=False)
    return result
