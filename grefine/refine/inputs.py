"""What a caller may pass as images, masks, prompts and generators, and what is made of it."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from grefine.errors import ConfigError, ImageError, PromptError
from grefine.io.picture import MAX_PIXELS, LoadedImage, normalise, restore
from grefine.refine.composite import rounded

OneImage = str | Path | Image.Image | np.ndarray | torch.Tensor
ImageInput = OneImage | Sequence[OneImage]
"""What a call takes as images."""
LIMIT = 2**63 - 1
"""Of seeds."""
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
_WHOLE = ("height", "width", "num_inference_steps", "num_images_per_prompt", "clip_skip")
_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds")
KINDS: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(_WHOLE, (Integral, "a whole number")),
    **dict.fromkeys(("strength", "guidance_scale"), (Real, "a number")),
    **dict.fromkeys((*_TENSORS, "negative_pooled_prompt_embeds"), (torch.Tensor, "a tensor")),
    "generator": ((torch.Generator, list, tuple), "a torch.Generator or a list of them"),
    "guard": (bool, "true or false"),
    "candidates": ((Integral, str), "a number, or a text such as '4 by mdiqa'"),
    "guidance": (Mapping, "a mapping from preferences to weights"),
    "cross_attention_kwargs": (Mapping, "a mapping"),
    "callback_on_step_end": (Callable, "a function"),
    "restorer": ((str, Callable), "a name or a function"),
    "scorers": (Sequence, "a list of scorers"),
}
"""The plain arguments of a call: what is accepted, and how to say it."""


@dataclass(frozen=True)
class Picture:
    """An image as the flow works on it, with what it needs to be given back in its own form."""

    pixels: np.ndarray
    """`(H, W, 3)` uint8."""
    source: Image.Image | None = None
    """The PIL image that was passed, if one was."""
    loaded: LoadedImage | None = None

    @property
    def image(self) -> Image.Image:
        """The pixels as a PIL image, with the name of the file that it was read from, where one was."""
        image = Image.fromarray(self.pixels)
        path = None if self.loaded is None else self.loaded.path
        image.filename = path or getattr(self.source, "filename", "")  # type: ignore[attr-defined]
        return image

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def as_pil(self, pixels: np.ndarray) -> Image.Image:
        """Return `pixels` with mode, alpha and profile of the source; untouched pixels return the source itself."""
        if self.source is not None and pixels is self.pixels:
            return self.source
        refined = Image.fromarray(rounded(pixels))
        return restore(refined, self.loaded) if self.loaded is not None else refined


def check_call(
    output_type: str, strength: float | None, wanted: Sequence[str], known: Sequence[str], most: float
) -> None:
    """Refuse what no call can do: an output of another type, too much strength, tensors that a callback cannot see."""
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(f"callback_on_step_end_tensor_inputs: choose among {', '.join(known)}, not {unknown}.")
    if output_type not in OUTPUT_TYPES:
        raise ConfigError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}.")
    if strength is not None and not 0.0 < strength <= most:
        raise ConfigError(f"strength must lie above 0 and up to {most:g}, not {strength}.")


def check_words(prompt: Any, embeds: torch.Tensor | None, negative: Any, count: int) -> None:
    """Refuse prompts and embeddings that do not fit together or the number of images."""
    read_prompts(negative, count, "negative prompts")
    if embeds is None:
        return
    if prompt is not None:
        raise PromptError("Give either `prompt` or `prompt_embeds`, not both.")
    if embeds.shape[0] != count:
        raise PromptError(f"`prompt_embeds` has {embeds.shape[0]} rows for {count} images: give one row for each.")


def read_pictures(image: ImageInput | None) -> list[Picture]:
    """Return one picture per image: of a path, a PIL image, an array, a tensor, or a list of these."""
    images = list(image) if isinstance(image, (list, tuple)) else [image]
    if image is None or not images:
        raise ImageError("No image was given: pass `image`, a path, a PIL image or a list of them.")
    return [picture for index, one in enumerate(images) for picture in _read_one(one, f"image {index}")]


def resize_picture(picture: Picture, height: int | None, width: int | None) -> Picture:
    """Return the picture at another size, as `height` and `width` of the call ask."""
    target = (height or picture.size[0], width or picture.size[1])
    if target == picture.size:
        return picture
    if min(target) < 1 or target[0] * target[1] > MAX_PIXELS:
        raise ImageError(f"height and width are {target[0]} and {target[1]}: 1 to {MAX_PIXELS:,} pixels are accepted.")
    resized = picture.as_pil(picture.pixels).resize((target[1], target[0]), Image.Resampling.LANCZOS)
    return _read_one(resized, "the resized image")[0]


def read_masks(mask: Any, pictures: Sequence[Picture]) -> list[np.ndarray | None]:
    """Return one `(H, W)` bool mask per picture, white = repaint; None where no mask was given."""
    if mask is None:
        return [None] * len(pictures)
    masks = list(mask) if isinstance(mask, (list, tuple)) else [mask]
    flat = [one for index, entry in enumerate(masks) for one in _read_mask(entry, index)]
    if len(flat) == 1:
        flat = flat * len(pictures)
    if len(flat) != len(pictures):
        raise ImageError(f"{len(flat)} masks were given for {len(pictures)} images: give one for all or one for each.")
    for index, (one, picture) in enumerate(zip(flat, pictures, strict=True)):
        if one is not None and one.shape != picture.size:
            raise ImageError(
                f"Mask {index} is {one.shape[1]}x{one.shape[0]} but its image is {picture.size[1]}x{picture.size[0]}: "
                "they must be equally large."
            )
    return flat


def read_prompts(prompt: Any, count: int, what: str = "prompts") -> list[str]:
    """Return one prompt per image; one text serves all of them."""
    if prompt is None or isinstance(prompt, str):
        return [prompt or ""] * count
    if not isinstance(prompt, (list, tuple)) or not all(isinstance(p, str) for p in prompt):
        raise PromptError(f"The {what} must be a text or a list of texts, not {type(prompt).__name__}.")
    if len(prompt) != count:
        raise PromptError(f"{len(prompt)} {what} were given for {count} images: give one for all or one for each.")
    return list(prompt)


def check_types(given: Mapping[str, Any]) -> None:
    """See that the plain arguments of a call are of their kind; None is always one."""
    for name, value in given.items():
        kind, words = KINDS[name]
        if value is None or (isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)):
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{name} must be a finite number, not {value}.")
            if isinstance(value, torch.Tensor) and not torch.isfinite(value).all():
                raise ConfigError(f"{name} holds NaN or infinite values.")
            continue
        raise ConfigError(f"{name} must be {words}, not {type(value).__name__}.")


def _read_one(image: Any, name: str) -> list[Picture]:
    if isinstance(image, (str, Path)):
        from grefine.io.images import read_image

        loaded = read_image(image)
        return [Picture(np.asarray(loaded.rgb), None, loaded)]
    if isinstance(image, Image.Image):
        loaded = normalise(image)
        upright = loaded.rgb.size == image.size and "turned" not in " ".join(loaded.notes)
        return [Picture(np.asarray(loaded.rgb), image if upright else None, loaded)]
    values = _array(image, name)
    if isinstance(image, torch.Tensor) and values.ndim in (3, 4):
        values = np.moveaxis(values, -3, -1)
    if values.ndim == 4:
        return [picture for row in values for picture in _read_one(row, name)]
    if values.ndim != 3 or values.shape[-1] != 3 or 0 in values.shape:
        raise ImageError(f"{name} has the shape {values.shape}: arrays are (H, W, 3), tensors (3, H, W), or batches.")
    if values.dtype == np.uint8:
        return [Picture(np.ascontiguousarray(values))]
    return [Picture(np.rint(_shares(values, name) * 255).astype(np.uint8))]


def _array(given: Any, name: str) -> np.ndarray:
    """Return an array, or a tensor as one: bytes and booleans as they are, other numbers as float32."""
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu()
        given = (given if given.dtype in (torch.bool, torch.uint8) else given.float()).numpy()
    if not isinstance(given, np.ndarray):
        raise ImageError(f"{name} is a {type(given).__name__}: pass paths, PIL images, arrays or tensors.")
    return given


def _shares(values: np.ndarray, name: str) -> np.ndarray:
    """Return values that lie in 0..1."""
    if not np.issubdtype(values.dtype, np.floating) or not np.all((values > -1e-3) & (values < 1 + 1e-3)):
        raise ImageError(
            f"{name} must hold uint8, or floats in 0..1 and no NaN: divide 0..255 by 255, or bring -1..1 there by "
            "(x + 1) / 2."
        )
    return np.clip(values, 0, 1)


def _read_mask(mask: Any, index: int) -> list[np.ndarray | None]:
    if mask is None:
        return [None]
    if isinstance(mask, Image.Image):
        return [np.asarray(mask.convert("L")) >= 128]
    values = _array(mask, f"Mask {index}")
    if values.dtype == bool and values.ndim == 2:
        return [values]
    of_255 = values.dtype == np.uint8 and values.max() > 1  # no more than 1 is yes and no, not black and nearly black
    values = _shares(values.astype(np.float64) / (255.0 if of_255 else 1.0), f"Mask {index}")
    if values.ndim == 4:
        return [one for row in values for one in _read_mask(row, index)]
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2:
        raise ImageError(f"Mask {index} has the shape {values.shape}: masks are (H, W).")
    return [values >= 0.5]


def image_seeds(
    generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> list[tuple[int, int | None]]:
    """Draw one number per image: from its own generator, or the same one for all."""
    if generator is None:
        seed = int(torch.randint(LIMIT, (1,)).item())
        generator = torch.Generator().manual_seed(seed)
    if isinstance(generator, torch.Generator):
        return [_draw(generator)] * count
    if len(generator) != count:
        raise ConfigError(f"{len(generator)} generators were given for {count} images: give one, or one for each.")
    return [_draw(one) for one in generator]


def pixel_digest(pixels: np.ndarray) -> bytes:
    """Return what tells this picture from every other."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()


def derive(seed: int, *parts: object) -> int:
    """Mix a seed with whatever names the place it is used at."""
    text = repr((seed, *parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % LIMIT


def _draw(generator: torch.Generator) -> tuple[int, int | None]:
    seed = generator.initial_seed()
    fresh = torch.Generator(generator.device).manual_seed(seed)
    repeatable = bool(torch.equal(fresh.get_state(), generator.get_state()))
    drawn = int(torch.randint(LIMIT, (1,), generator=generator, device=generator.device).item())
    return drawn, seed if repeatable else None


def write_images(pictures: Sequence[Picture], outputs: Sequence[np.ndarray], output_type: str) -> Any:
    """Return the outputs as PIL images, an array `(B, H, W, 3)` or a tensor `(B, 3, H, W)`; a list for mixed sizes."""
    if output_type == "pil":
        return [picture.as_pil(pixels) for picture, pixels in zip(pictures, outputs, strict=True)]
    values = [pixels.astype(np.float32) / 255.0 for pixels in outputs]
    if output_type == "np":
        return np.stack(values) if len({v.shape for v in values}) == 1 else values
    tensors = [torch.from_numpy(v).permute(2, 0, 1) for v in values]
    return torch.stack(tensors) if len({t.shape for t in tensors}) == 1 else tensors
