"""What scorers accept: every image and prompt passes here, so that bad input fails with the same words everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from grefine.errors import ImageError, PromptError
from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    import torch


class Formula:
    """A judge that looks at one picture after the other by a formula, on the CPU; `minimum` is its least side."""

    def __init__(self, spec: MetricSpec, formula: Callable[[Image.Image], float], minimum: int = 1) -> None:
        self.spec, self.formula, self.minimum = spec, formula, minimum

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, self.spec.name, self.minimum)
        return [Scores({self.spec.name: self.formula(picture)}) for picture in pictures]


def check_images(images: Sequence[Any], metric: str, minimum: int = 1) -> list[Image.Image]:
    """Return the images as 8-bit RGB."""
    if isinstance(images, (Image.Image, str)) or hasattr(images, "shape"):
        raise ImageError(f"{metric} takes a list of images, not one {type(images).__name__}: put it in [ ].")
    pictures = [_as_rgb(image, f"{metric}: image {index}") for index, image in enumerate(images)]
    for index, picture in enumerate(pictures):
        if min(picture.size) < minimum:
            raise ImageError(
                f"{metric}: image {index} is {picture.width}x{picture.height} pixels, but both sides must have "
                f"at least {minimum}; enlarge it or choose another metric (`grefine metrics`)."
            )
    return pictures


def check_prompts(prompts: Sequence[str] | None, count: int, metric: str, required: bool) -> list[str]:
    """Return the prompts, one per image; an image-only metric ignores what it is given."""
    if not required:
        return [""] * count
    if prompts is None:
        raise PromptError(f"{metric} compares an image with its prompt: give one prompt per image.")
    if isinstance(prompts, str):
        raise PromptError(f"{metric} takes a list of prompts, not one text: put it in [ ].")
    if len(prompts) != count:
        raise PromptError(
            f"{metric} was given {count} images and {len(prompts)} prompts; it needs one prompt per image."
        )
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str) or not prompt.strip():
            raise PromptError(
                f"{metric}: the prompt of image {index} is empty; leave the image out or score it with a metric that "
                "needs no prompt."
            )
    return list(prompts)


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return `(3, H, W)` float32 in 0..1."""
    import torch

    return torch.from_numpy(np.asarray(image, dtype=np.uint8).copy()).permute(2, 0, 1).float() / 255.0


def _as_rgb(image: Any, name: str) -> Image.Image:
    if isinstance(image, Image.Image):
        return image if image.mode == "RGB" else image.convert("RGB")
    import torch

    if not isinstance(image, (np.ndarray, torch.Tensor)):
        raise ImageError(f"{name} is a {type(image).__name__}; give PIL images, or arrays in 0..1.")
    values = torch.as_tensor(image).detach().cpu()
    if values.dim() == 3 and values.shape[0] != 3 and values.shape[-1] == 3:
        values = values.permute(2, 0, 1)
    if values.dim() != 3 or values.shape[0] != 3:
        raise ImageError(
            f"{name} has shape {tuple(values.shape)}; an RGB picture of (H, W, 3) or (3, H, W) is needed."
        )
    if values.dtype != torch.uint8:
        low, high = values.float().amin().item(), values.float().amax().item()
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # written so that NaN fails as well
            hint = "divide it by 255" if high > 2 else "bring it to that range first"
            raise ImageError(f"{name} takes values in 0..1, but this image spans {low:.3g}..{high:.3g}; {hint}.")
        values = (values.float() * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).numpy())
