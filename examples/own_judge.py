"""A judge of your own decides whether a repair is kept: python examples/own_judge.py"""

from pathlib import Path

import numpy as np
import torch

from grefine import GRefinePipeline, MetricSpec


def sharpness(images):
    """Any function of a list of pictures that returns a number for each; a second argument would get the prompts."""
    return [float(np.abs(np.diff(np.asarray(image.convert("L"), dtype=float))).mean()) for image in images]


# Without this it is read as: higher is better, about quality, no fixed range.
sharpness.spec = MetricSpec("sharpness", direction="higher", range=(0, 255), axis="perceptual")

pipe = GRefinePipeline.from_pretrained("tiny")
out = pipe(
    prompt="two dotted green cones on the beach",
    image=Path(__file__).parent / "images" / "05_blur.png",
    generator=torch.Generator().manual_seed(0),
    scorers=[sharpness, *pipe.judges()],  # beside the pipeline's own; alone it would replace them
)
result = out.results[0]
print(f"sharpness {result.before['sharpness']:.1f} -> {result.after['sharpness']:.1f}")
print(f"Kept: {result.decision.kept}. {result.decision.reason}")
