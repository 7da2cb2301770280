"""A judge and a quality map in one file: both look at how much neighbouring pixels differ."""

from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageFilter

from grefine.types import MapSpec, MetricSpec, Scores

RADIUS = 4


def contrast(image):
    """Return how far each pixel lies from its surroundings, 0..1, smoothed."""
    grey = image.convert("L")
    away = np.abs(np.asarray(grey, np.float32) - np.asarray(grey.filter(ImageFilter.GaussianBlur(RADIUS)), np.float32))
    smooth = Image.fromarray(away.clip(0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(RADIUS))
    return np.asarray(smooth, np.float32) / 255


class Texture:
    spec = MetricSpec("texture", licence="Apache-2.0", description="mean local contrast")

    def __call__(self, images, prompts=None):
        return [Scores({"texture": float(contrast(image).mean())}) for image in images]


def draw(images):
    """Return 100 where a picture is flat and 0 where it has texture."""
    return [100 * (1 - np.clip(contrast(image) * 20, 0, 1)) for image in images]


JUDGE = SimpleNamespace(SPEC=Texture.spec, load=lambda path, device: Texture())
MAP = SimpleNamespace(
    SPEC=MapSpec("flatness", range=(0, 100), high_is="bad", licence="Apache-2.0", judges=("texture",)),
    load=lambda device: draw,
)
