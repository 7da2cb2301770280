"""What people would use instead, as functions picture → picture: filters, and models of diffusers and transformers.

Each is a restorer as stage 2 knows it: `restore(image, prompt=..., strength=..., generator=...) -> image` of the
input's size. Models run the same number of executed steps, whatever their strength.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageFilter

from grefine.errors import ConfigError, GRefineError, WeightsMissing, nearest
from grefine.opening import Opening, choose_dtype, open_pipeline
from grefine.refine.settings import RefineConfig
from grefine.resources import chosen_pipeline
from grefine.scorers.resolve import check_device
from grefine.types import RefineResult

if TYPE_CHECKING:
    import torch

Restore = Callable[..., Image.Image]

MODELS = {
    "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0", "StableDiffusionXLImg2ImgPipeline"),
    "sdxl-refiner": ("stabilityai/stable-diffusion-xl-refiner-1.0", "StableDiffusionXLImg2ImgPipeline"),
    "sd": ("stable-diffusion-v1-5/stable-diffusion-v1-5", "StableDiffusionImg2ImgPipeline"),
    "instruct-pix2pix": ("timbrooks/instruct-pix2pix", "StableDiffusionInstructPix2PixPipeline"),
    "sd-upscale": ("stabilityai/stable-diffusion-x4-upscaler", "StableDiffusionUpscalePipeline"),
    "swin2sr": ("caidas/swin2SR-classical-sr-x2-64", ""),
    "grefine": ("", ""),
}
"""Refiners that need a model: the folder or Hub id that is loaded when none is given, and its class in diffusers."""


@dataclass(frozen=True, slots=True)
class Run:
    """What all refiners of a comparison share."""

    steps: int = 20
    """Executed denoising steps."""
    strength: float = 0.3
    """Of image-to-image models, and of functions of your own."""
    strengths: Mapping[str, float] | None = None
    """Refiner, or method with a function of your own, → its own strength; grefine has one for each region unless it is
    named here."""
    device: str = "cpu"
    models: Mapping[str, str] | None = None
    """Refiner → folder or Hub id, in place of the default."""
    force: bool = False
    """Refine pictures of a world that a refiner does not know."""
    opening: Opening = Opening()
    """How grefine's own pipeline is loaded, and who judges in it."""
    guidance: Mapping[str, float] | None = None
    config: RefineConfig | None = None

    def source(self, name: str) -> str:
        return (self.models or {}).get(name, MODELS.get(name, ("", ""))[0])

    def strength_of(self, name: str) -> float:
        return (self.strengths or {}).get(name, self.strength)


def load_refiner(name: str, run: Run) -> Restore:
    if name in FILTERS:
        return FILTERS[name]
    source, kind = run.source(name), MODELS[name][1]
    try:
        if kind:
            return _prompted(kind, source, run, run.strength_of(name))
        return {"swin2sr": _swin2sr, "grefine": GRefine}[name](source, run)
    except GRefineError:
        raise
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise WeightsMissing(
            f"The refiner '{name}' needs '{source}', which cannot be loaded ({first}); give a folder with "
            f"--model {name}=DIR, or leave the refiner out."
        ) from error


def check_run(names: Iterable[str], run: Run) -> None:
    """Refuse what cannot work before anything is loaded."""
    for name in (*names, *(run.models or {})):
        if name not in REFINERS:
            raise ConfigError(f"No refiner '{name}': choose from {', '.join(REFINERS)}{nearest(name, REFINERS)}")
        if name == "grefine":
            chosen_pipeline(run.source(name), "--pipeline NAME or --model grefine=NAME")
    strengths = (run.strength, *(run.strengths or {}).values())
    if not all(0 < strength <= 1 for strength in strengths) or run.steps < 1:
        given = f"{', '.join(map(str, strengths))} and {run.steps}"
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


FILTERS: dict[str, Restore] = {"identity": identity, "blur": blur, "sharpen": sharpen}
REFINERS = (*FILTERS, *MODELS)


def _prompted(kind: str, source: str, run: Run, strength: float) -> Restore:
    """Load a pipeline of diffusers; what upscales is brought back to the picture's size."""
    import diffusers

    dtype = choose_dtype(run.opening.dtype, run.device)
    pipe = getattr(diffusers, kind).from_pretrained(source, dtype=dtype).to(run.device)
    pipe.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"num_inference_steps": run.steps}
    if kind.endswith("Img2ImgPipeline"):
        options = {"strength": strength, "num_inference_steps": math.ceil(run.steps / strength - 1e-9)}

    def restore(image: Image.Image, prompt: str, generator: "torch.Generator", **_: Any) -> Image.Image:
        size = (max(8, round(image.width / 8) * 8), max(8, round(image.height / 8) * 8))
        sized = image.resize(size, Image.Resampling.LANCZOS)
        made = pipe(prompt, image=sized, generator=generator, **options).images[0]
        return made.convert("RGB").resize(image.size, Image.Resampling.LANCZOS)

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


class GRefine:
    """Our own pipeline; `last` holds what it found out about the picture that it saw last."""

    def __init__(self, source: str, run: Run) -> None:
        self.name, self.run = Path(source).name, run
        self.pipe = open_pipeline(source, replace(run.opening, device=run.device))
        self.pipe.set_progress_bar_config(disable=True)
        self.last: RefineResult | None = None

    def __call__(self, image: Image.Image, prompt: str, generator: "torch.Generator", **_: Any) -> Image.Image:
        out = self.pipe(
            prompt=prompt or None,
            image=image,
            num_inference_steps=self.run.steps,
            generator=generator,
            force=self.run.force,
            guidance=self.run.guidance,
            config=self.run.config,
            strength=(self.run.strengths or {}).get("grefine"),
        )
        self.last = out.results[0]
        return out.images[0]
