"""A painter of one's own: any function of crops and masks redraws, grefine says where, what and whether it helped.

python examples/own_painter.py [IMAGE] [OUT.png]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from grefine import GRefinePipeline
from grefine.types import PainterSpec


def smooth(images, masks, prompts, strengths, seeds):
    """Median-filter what is to be redrawn; the lists have one entry per crop, all of one size."""
    found = []
    for image, mask, prompt, strength in zip(images, masks, prompts, strengths, strict=True):
        print(f"crop of {image.size}, {np.asarray(mask).astype(bool).mean():.0%} to redraw, {strength:.2f}: {prompt}")
        found.append(Image.composite(image.filter(ImageFilter.MedianFilter(5)), image, mask))
    return found


smooth.spec = PainterSpec("smooth", side=64, sees_source=True)

image = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images" / "06_noise.png"
target = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("own_painter.png")
prompt = "one purple cat, a purple heart with stripes, on sand, in the evening"

pipe = GRefinePipeline.from_pipe(smooth, maps="tiny")  # the maps of tiny know toy scenes only
out = pipe(prompt, Image.open(image).convert("RGB"), generator=torch.Generator().manual_seed(0))
out.images[0].save(target)
result = out.results[0]
print(f"{result.painter}: kept {result.decision.kept}. {result.decision.reason} {target}")
