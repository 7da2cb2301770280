"""Toy scenes as people have them: with prompts, written to a file and read again, a little larger or smaller.

None of it is a defect: the defect "jpeg" is as coarse as a file of quality 5 to 13, the files here have 85 and more.
"""

import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lab.world.captions import describe
from lab.world.render import render
from lab.world.scene import sample


def to_picture(image: Tensor) -> Image.Image:
    """Turn one `(3, S, S)` image in 0..1 into an 8-bit picture."""
    return Image.fromarray((image.clamp(0, 1) * 255).round().permute(1, 2, 0).cpu().numpy().astype(np.uint8))


def tensor_of(pictures: Sequence[Image.Image]) -> Tensor:
    """Turn PIL images of one size into (B, 3, H, W) in 0..1."""
    pixels = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def pictures_with_captions(count: int, seed: int, size: int = 64) -> tuple[list[Image.Image], list[str]]:
    """Draw `count` clean scenes with a caption each; the same for a seed on every machine."""
    scenes = sample(count, torch.Generator().manual_seed(seed))
    rng = random.Random(seed)
    pictures = [to_picture(image) for image in render(scenes, size).images]
    return pictures, [describe(scenes, index, rng).text for index in range(count)]


FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
Way = Literal["jpeg", "webp", "resized", "noise"]


def as_files(images: Tensor, generator: torch.Generator, share: float = 1.0) -> Tensor:
    """Send a share of images (B, 3, S, S) through files, three of four JPEG, half resized or a level off before."""
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


def save_grid(rows: Sequence[Tensor], path: Path) -> None:
    """Write rows of images, (N, 3, S, S) in 0..1 each, as one PNG at twice their size."""
    sheet = to_picture(torch.cat([torch.cat([*row], 2) for row in rows], 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(path)
