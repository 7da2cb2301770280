"""How pictures are cut for training; every choice comes from the given random source."""

from __future__ import annotations

import random

from PIL import Image, ImageOps

from grefine.models.moe_agiqa import pad_to


def flipped(image: Image.Image, rng: random.Random) -> Image.Image:
    """Mirror every other picture."""
    return ImageOps.mirror(image) if rng.random() < 0.5 else image


def random_crop(image: Image.Image, side: int, rng: random.Random) -> Image.Image:
    """Cut a square anywhere; what is shorter gets black borders first."""
    image = pad_to(image, side)
    left, top = rng.randint(0, image.width - side), rng.randint(0, image.height - side)
    return image.crop((left, top, left + side, top + side))


def shorter_side(image: Image.Image, side: int) -> Image.Image:
    """Scale so that the shorter side is `side`."""
    if min(image.size) == side:
        return image
    scale = side / min(image.size)
    size = (max(side, round(image.width * scale)), max(side, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR)
