"""Toy scenes as anyone would meet them: pictures with their prompts."""

import random
from collections.abc import Sequence

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
