"""A judge, a quality map and an alignment map in one file: contrast of neighbours, and colours that a prompt names."""

from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageFilter

from grefine.types import MapSpec, MetricSpec, Scores

RADIUS = 4
COLOURS = {"red", "orange", "yellow", "green", "blue", "purple", "pink"}


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


def draw_paleness(images, prompts):
    """Return 0 where a picture is grey although its prompt names a colour, 1 where it is half saturated."""
    asked = [bool(COLOURS & set(prompt.lower().split())) for prompt in prompts]
    maps = [np.clip(np.asarray(image.convert("HSV"), np.float32)[..., 1] / 127, 0, 1) for image in images]
    return [drawn if colour else np.ones_like(drawn) for drawn, colour in zip(maps, asked, strict=True)]


JUDGE = SimpleNamespace(SPEC=Texture.spec, load=lambda path, device: Texture())
MAP = SimpleNamespace(
    SPEC=MapSpec("flatness", range=(0, 100), high_is="bad", licence="Apache-2.0", judges=("texture",)),
    load=lambda device: draw,
)
PALENESS = SimpleNamespace(SPEC=MapSpec("paleness", licence="Apache-2.0"), load=lambda device: draw_paleness)
