"""Toy pictures as people have them: written to a file and read again, made a little larger or smaller, one level off.

None of it is a defect: a good picture stays good. The defect "jpeg" is another thing, as coarse as a file of quality 5
to 13, where the files here have 85 and more.
"""

import io
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lab.world.pictures import to_picture

FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
Way = Literal["jpeg", "webp", "resized", "noise"]


def as_files(images: Tensor, generator: torch.Generator, share: float = 1.0) -> Tensor:
    """Send a share of the images (B, 3, S, S), 0..1, through what files go through; the others come back as they are.

    Three of four become JPEG, one WebP; before that a quarter is resized and a quarter gets a level of noise.
    """
    chosen = torch.rand(len(images), generator=generator) < share
    fate = torch.randint(4, (len(images), 2), generator=generator)
    found = images.clone()
    for row in chosen.nonzero()[:, 0].tolist():
        first, last = fate[row].tolist()
        picture = to_picture(images[row])
        if first < 2:
            picture = saved(picture, ("resized", "noise")[first], generator)
        picture = saved(picture, "webp" if last == 3 else "jpeg", generator)
        found[row] = torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(images) / 255
    return found


def saved(picture: Image.Image, way: Way, generator: torch.Generator) -> Image.Image:
    """Return a picture after one of the ways that files go, no worse for it and of the same size."""
    if way == "noise":
        pixels = np.asarray(picture).astype(np.int16)
        moved = pixels + torch.randint(-1, 2, pixels.shape, generator=generator).numpy()
        return Image.fromarray(moved.clip(0, 255).astype(np.uint8))
    if way == "resized":
        return scaled(picture, generator).resize(picture.size, _filter(generator))
    if way == "webp":
        return through(picture, "WEBP", quality=_quality(generator))
    # With chroma at full size in half of the cases, at half size (4:2:0) in the other.
    halved = float(torch.rand((), generator=generator)) < 0.5
    return through(picture, "JPEG", quality=_quality(generator), subsampling=2 if halved else 0)


def scaled(picture: Image.Image, generator: torch.Generator) -> Image.Image:
    """Make a picture a little larger or smaller."""
    factor = 0.9 + (1.1 - 0.9) * float(torch.rand((), generator=generator))
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), _filter(generator))


def through(picture: Image.Image, form: str, **options: Any) -> Image.Image:
    """Write a picture in a form of PIL's and read it again."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return Image.open(file).convert("RGB")


def _filter(generator: torch.Generator) -> Image.Resampling:
    return FILTERS[int(torch.randint(len(FILTERS), (), generator=generator))]


def _quality(generator: torch.Generator) -> int:
    return int(torch.randint(85, 101, (), generator=generator))
