"""A map of your own says where a picture is bad: python examples/own_map.py"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from grefine import GRefinePipeline


def flatness(images):
    """Return one array (height, width) in 0..1 per picture, high = good: here, where there is detail."""
    maps = []
    for image in images:
        grey = image.convert("L")
        blurred = grey.filter(ImageFilter.GaussianBlur(3))
        detail = np.abs(np.asarray(grey, dtype=float) - np.asarray(blurred, dtype=float))
        maps.append(np.clip(detail / 20, 0, 1))
    return maps


pipe = GRefinePipeline.from_pretrained("tiny")
image = Image.open(Path(__file__).parent / "images" / "05_blur.png")
# An array, a folder of maps, or the name of a provider that another package brings do as well (docs/maps.md).
out = pipe("two dotted green cones on the beach", image, quality_map=flatness, generator=torch.manual_seed(0))
result = out.results[0]
print(f"By this map {result.plan.area:.0%} of the picture is to be repainted. {result.decision.reason}")
out.images[0].save("own_map.png")
