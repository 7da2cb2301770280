"""What people would use instead, as functions picture → picture: filters, and models of diffusers and transformers.

Each is a restorer as stage 2 knows it: `restore(image, prompt=..., strength=..., generator=...) -> image` of the
input's size. Models run the same number of executed steps, whatever their strength.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageFilter

from grefine.errors import ConfigError, GRefineError, WeightsMissing, nearest
from grefine.opening import Opening, choose_dtype, open_pipeline
from grefine.resources import chosen_pipeline
from grefine.scorers.resolve import check_device

if TYPE_CHECKING:
    import torch

Restore = Callable[..., Image.Image]

MODELS = {
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sdxl-refiner": "stabilityai/stable-diffusion-xl-refiner-1.0",
    "sd": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "instruct-pix2pix": "timbrooks/instruct-pix2pix",
    "sd-upscale": "stabilityai/stable-diffusion-x4-upscaler",
    "swin2sr": "caidas/swin2SR-classical-sr-x2-64",
    "grefine": "",
}
"""Refiners that need a model, with the folder or Hub id that is loaded when none is given."""
FILTERS = ("identity", "blur", "sharpen")
REFINERS = (*FILTERS, *MODELS)


@dataclass(frozen=True, slots=True)
class Run:
    """What all refiners of a comparison share."""

    steps: int = 20
    """Executed denoising steps."""
    strength: float = 0.3
    """Of image-to-image models."""
    device: str = "cpu"
    models: Mapping[str, str] | None = None
    """Refiner → folder or Hub id, in place of the default."""
    force: bool = False
    """Refine pictures of a world that a refiner does not know."""
    opening: Opening = Opening()
    """How grefine's own pipeline is loaded, and who judges in it."""
    guidance: Mapping[str, float] | None = None
    """What steers it."""

    def source(self, name: str) -> str:
        """Return what is loaded for a refiner."""
        return (self.models or {}).get(name, MODELS.get(name, ""))


def load_refiner(name: str, run: Run) -> Restore:
    """Return a refiner by name, loaded."""
    if name not in REFINERS:
        raise ConfigError(f"No refiner '{name}': choose from {', '.join(REFINERS)}{nearest(name, REFINERS)}")
    if not 0 < run.strength <= 1 or run.steps < 1:
        raise ConfigError(
            f"Refiners need a strength in 0..1 and at least one step, not {run.strength} and {run.steps}."
        )
    if name in FILTERS:
        return {"identity": identity, "blur": blur, "sharpen": sharpen}[name]
    builder = {
        "sdxl": _image_to_image("StableDiffusionXLImg2ImgPipeline"),
        "sdxl-refiner": _image_to_image("StableDiffusionXLImg2ImgPipeline"),
        "sd": _image_to_image("StableDiffusionImg2ImgPipeline"),
        "instruct-pix2pix": _instruct,
        "sd-upscale": _upscale,
        "swin2sr": _swin2sr,
        "grefine": _grefine,
    }[name]
    try:
        return builder(run.source(name), run)
    except GRefineError:
        raise
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise WeightsMissing(
            f"The refiner '{name}' needs '{run.source(name)}', which cannot be loaded ({first}); give a folder with "
            f"--model {name}=DIR, or leave the refiner out."
        ) from error


def check_run(names: Iterable[str], run: Run) -> None:
    """Refuse what cannot work before anything is loaded."""
    for name in (*names, *(run.models or {})):
        if name not in REFINERS:
            raise ConfigError(f"No refiner '{name}': choose from {', '.join(REFINERS)}{nearest(name, REFINERS)}")
        if name == "grefine":
            chosen_pipeline(run.source(name), "--pipeline NAME or --model grefine=NAME")
    if not 0 < run.strength <= 1 or run.steps < 1:
        given = f"{run.strength} and {run.steps}"
        raise ConfigError(f"Refiners need a strength above 0 and up to 1, and at least one step, not {given}.")
    check_device(run.device)


def identity(image: Image.Image, **_: Any) -> Image.Image:
    """Return the picture unchanged: every gain over it is an artefact of the measurement."""
    return image


def blur(image: Image.Image, **_: Any) -> Image.Image:
    """Return a softer picture: a judge that likes it is no judge of sharpness. Radius: 1/200 of the longer side."""
    return image.filter(ImageFilter.GaussianBlur(max(0.75, max(image.size) / 200)))


def sharpen(image: Image.Image, **_: Any) -> Image.Image:
    """Return a crisper picture (unsharp mask): what costs nothing, a refiner has to beat."""
    return image.filter(ImageFilter.UnsharpMask(radius=max(0.75, max(image.size) / 400), percent=120, threshold=2))


def _image_to_image(kind: str) -> Callable[[str, Run], Restore]:
    def load(source: str, run: Run) -> Restore:
        pipe = _pipeline(kind, source, run)

        def restore(image: Image.Image, prompt: str, generator: torch.Generator, **_: Any) -> Image.Image:
            total = math.ceil(run.steps / run.strength - 1e-9)
            return _result(
                pipe(
                    prompt=prompt,
                    image=_multiple_of(image, 8),
                    strength=run.strength,
                    num_inference_steps=total,
                    generator=generator,
                ),
                image,
            )

        return restore

    return load


def _instruct(source: str, run: Run) -> Restore:
    pipe = _pipeline("StableDiffusionInstructPix2PixPipeline", source, run)

    def restore(image: Image.Image, prompt: str, generator: torch.Generator, **_: Any) -> Image.Image:
        small = _multiple_of(image, 8)
        return _result(pipe(prompt, image=small, num_inference_steps=run.steps, generator=generator), image)

    return restore


def _upscale(source: str, run: Run) -> Restore:
    """Upscale four times, then bring the picture back to its size."""
    pipe = _pipeline("StableDiffusionUpscalePipeline", source, run)

    def restore(image: Image.Image, prompt: str, generator: torch.Generator, **_: Any) -> Image.Image:
        small = _multiple_of(image, 8)
        return _result(pipe(prompt, image=small, num_inference_steps=run.steps, generator=generator), image)

    return restore


def _swin2sr(source: str, run: Run) -> Restore:
    """Super-resolve, then bring the picture back to its size; the network sees no prompt and has no steps."""
    import numpy as np
    import torch
    from transformers import Swin2SRForImageSuperResolution

    model = Swin2SRForImageSuperResolution.from_pretrained(source).to(run.device).eval()
    window = model.config.window_size

    @torch.inference_mode()
    def restore(image: Image.Image, **_: Any) -> Image.Image:
        pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)[None]
        height, width = pixels.shape[-2:]
        edge = (0, -width % window, 0, -height % window)
        padded = torch.nn.functional.pad(pixels, edge, mode="replicate").to(run.device)
        out = model(padded).reconstruction[0].clamp(0, 1).cpu()
        scale = out.shape[-1] // padded.shape[-1]
        out = out[:, : height * scale, : width * scale].permute(1, 2, 0)
        large = Image.fromarray((out.numpy() * 255).round().astype(np.uint8))
        return large.resize(image.size, Image.Resampling.LANCZOS)

    return restore


def _grefine(source: str, run: Run) -> Restore:
    pipe = open_pipeline(source, replace(run.opening, device=run.device))
    pipe.set_progress_bar_config(disable=True)

    steered: set[str] = set()

    def restore(image: Image.Image, prompt: str, generator: torch.Generator, **_: Any) -> Image.Image:
        out = pipe(
            prompt=prompt or None,
            image=image,
            num_inference_steps=run.steps,
            generator=generator,
            force=run.force,
            guidance=run.guidance,
        )
        judged = (name for scores in out.results[0].decision.candidates.values() for name in scores)
        steered.update(name.split(".")[0] for name in judged)
        restore.last = (str(source), out.results[0])  # type: ignore[attr-defined]
        return out.images[0]

    restore.steered = steered  # type: ignore[attr-defined]
    return restore


def _pipeline(kind: str, source: str, run: Run) -> Any:
    import diffusers

    dtype = choose_dtype(run.opening.dtype, run.device)
    pipe = getattr(diffusers, kind).from_pretrained(source, dtype=dtype).to(run.device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _multiple_of(image: Image.Image, step: int) -> Image.Image:
    """Round both sides to what a latent model takes."""
    size = tuple(max(step, round(side / step) * step) for side in image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _result(output: Any, image: Image.Image) -> Image.Image:
    made = output.images[0].convert("RGB")
    return made if made.size == image.size else made.resize(image.size, Image.Resampling.LANCZOS)
