"""From what a caller names, or has loaded, to a painter; and what a painter changes in the settings of a call."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import DiffusionPipeline
from PIL import Image

from grefine.errors import ConfigError, GRefineError, WeightsMissing, nearest
from grefine.indicators.recipe import INDEX, PAINTER, assembled_folder, read_recipe, recipe_folder
from grefine.plugins import plugged_in
from grefine.refine.composite import resize, resize_mask, rounded
from grefine.refine.job import Job
from grefine.refine.painters.diffusers import DiffusersPainter, diffusers_class, painter_of
from grefine.refine.painters.families import Phrasing, family_named
from grefine.refine.painters.protocol import CropJob, Painted, Painter
from grefine.refine.settings import RefineConfig, resolve
from grefine.resources import pipeline_names
from grefine.types import PainterSpec

SDXL = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
"""What a pipeline with another painter lacks."""
FOR_BOTH = ("local_files_only", "token", "cache_dir", "force_download", "proxies")
"""What of the arguments of loading is meant for the pipeline and for a painter."""


@dataclass(frozen=True)
class OwnPainter(Painter):
    """A function `paint(images, masks, prompts, strengths, seeds, steps) -> images`; it names what it wants of these.

    Images are PIL, masks PIL in mode L (white = redraw), all of one size; it returns PIL images, or arrays
    `(H, W, 3)`: uint8, or floats in 0..1. A `spec` (`PainterSpec`) on it says its size and how it is told.
    """

    paint: Callable[..., Sequence[Any]]
    origin: str = ""
    """Its name where another package brings it."""

    def key(self, crop: CropJob) -> Any:
        """Equally large crops are redrawn together: each has its own strength."""
        return crop.size

    def draw(self, crops: Sequence[CropJob]) -> list[Painted]:
        """Call the function."""
        wanted = inspect.signature(self.paint).parameters
        every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in wanted.values())
        given = {
            "images": [Image.fromarray(rounded(resize(crop.pixels, *crop.size))) for crop in crops],
            "masks": [Image.fromarray(resize_mask(crop.mask, *crop.size).astype(np.uint8) * 255) for crop in crops],
            "prompts": [crop.prompt for crop in crops],
            "strengths": [crop.strength for crop in crops],
            "seeds": [crop.seed for crop in crops],
            "steps": self.painting.steps,
        }
        back = self.paint(**{name: value for name, value in given.items() if every or name in wanted})
        if not hasattr(back, "__len__") or len(back) != len(crops):
            what = f"{len(back)} pictures" if hasattr(back, "__len__") else type(back).__name__
            return [Painted(c.pixels, lost=f"{self.name} gave back {what} for {len(crops)} crops.") for c in crops]
        arrays = [np.asarray(one.convert("RGB") if isinstance(one, Image.Image) else one) for one in back]
        pixels = [values.astype(np.float32) * (1 if values.dtype == np.uint8 else 255) for values in arrays]
        return [self.taken(one, crop) for one, crop in zip(pixels, crops, strict=True)]


Chosen = DiffusersPainter | OwnPainter
"""A painter that is not the pipeline's own UNet."""


def open_painter(
    painter: Any,
    painter_class: str | None = None,
    words: Any = None,
    side: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    device: str = "cpu",
    allow_noncommercial: bool = False,
    **load: Any,
) -> Chosen:
    """Return the painter that is meant, as `GRefinePipeline.use_painter` says; crops come to a square of `side`."""
    if isinstance(painter, (DiffusersPainter, OwnPainter)):
        return painter
    if getattr(painter, "painter", None) is not None:
        return painter.painter
    if isinstance(painter, DiffusionPipeline):
        return painter_of(_plain(painter), words, side, arguments)
    if callable(painter):
        return _own_painter(painter, None, "", words, side)
    if not isinstance(painter, (str, Path)):
        raise ConfigError(f"A painter is a pipeline, a function or a name, not {type(painter).__name__}.")
    name = str(painter)
    if name in painter_files():
        file = painter_files()[name]
        if file.SPEC.noncommercial and not allow_noncommercial:
            raise ConfigError(f"'{name}' is non-commercial ({file.SPEC.licence}): pass --allow-noncommercial.")
        return _own_painter(file.load(device), file.SPEC, name, words, side)
    where, recipe = name, recipe_folder(name)
    if recipe is not None:
        if PAINTER not in read_recipe(recipe).parts:
            raise ConfigError(f"The pipeline '{name}' paints by its own UNet: give it as the pipeline.")
        variant = read_recipe(recipe).variant
        load = ({"variant": variant} if variant else {}) | load
        where = str(assembled_folder(recipe, [PAINTER]) / PAINTER)
    elif Path(name).is_dir():
        if not (Path(name) / INDEX).is_file():
            raise WeightsMissing(f"The folder '{name}' holds no {INDEX}: it is not a saved pipeline of diffusers.")
    elif "/" not in name or name.startswith(("/", ".")):
        recipes = [(other, folder) for other in pipeline_names() if (folder := recipe_folder(other)) is not None]
        known = [*painter_files(), *(other for other, folder in recipes if PAINTER in read_recipe(folder).parts)]
        raise ConfigError(f"No painter '{name}': give {', '.join(known)}, a folder or a Hub id{nearest(name, known)}")
    return replace(painter_of(_load(where, painter_class, load), words, side, arguments), origin=name)


def is_place(origin: str) -> bool:
    """Say whether a painter can be loaded from there again: a recipe, a folder of its own, or a Hub id."""
    if not origin or Path(origin).name == PAINTER and Path(origin).is_dir():
        return False  # inside another saved pipeline, which may go
    hub = "/" in origin and not origin.startswith(("/", ".")) and origin.count("/") == 1
    return recipe_folder(origin) is not None or Path(origin).is_dir() or hub


def describe_painter(painter: Chosen | None, place: str = "") -> dict[str, Any] | None:
    """Return what a saved pipeline keeps of its painter; `place` is that of its weights where they are saved along."""
    if painter is None:
        return None
    if isinstance(painter, OwnPainter):
        return {"kind": "package" if painter.origin else "function", "from": painter.origin or painter.name}
    told = painter.phrasing
    found: dict[str, Any] = {"kind": "diffusers", "from": place or painter.origin, "class": painter.name}
    if told.style != painter.family.words:
        found["words"] = dict(told.templates) if told.style == "instruction" else told.style
    return found | {"side": painter.side} | ({"arguments": dict(painter.arguments)} if painter.arguments else {})


def reopen_painter(stated: Mapping[str, Any], folder: str | Path, device: str = "cpu", **load: Any) -> Chosen | None:
    """Return the painter that a saved pipeline states; None for a function, which cannot be saved."""
    if stated.get("kind") == "function":
        return None
    inside = Path(folder) / str(stated["from"])
    source = str(inside) if inside.is_dir() else str(stated["from"])
    told = {name: stated.get(name) for name in ("words", "side", "arguments")}
    return open_painter(source, stated.get("class"), **told, device=device, **load)


def painter_settings(
    config: RefineConfig, preferred: Mapping[str, Any], overrides: Mapping[str, Any], other: Chosen | None, own: bool
) -> RefineConfig:
    """Fill what settings leave open: a painter's own guidance, stage 2 and steps, unless the pipeline is its own."""
    if other is None:
        return resolve(config, preferred, overrides)
    its = {"guidance_scale": other.guidance, "restorer": other.restorer}
    settings = resolve(config, {**its, **preferred} if own else {**preferred, **its}, overrides)
    if overrides.get("total_steps") is not None or config.total_steps != RefineConfig.total_steps:
        return settings
    first, second = other.steps
    alone = first if settings.restorer == "none" else first + second
    return replace(settings, total_steps=alone if settings.stage1 else second)


def refuse_foreign(other: Chosen | None, given: Mapping[str, Any]) -> None:
    """Refuse arguments that only SDXL's own loop understands where another painter paints."""
    used = [name for name, value in given.items() if value is not None]
    if other is not None and used:
        raise ConfigError(f"{used[0]} is for SDXL's own loop, and {other.name} paints here: leave it out.")


def with_dropped(jobs: Sequence[Job], painter: Chosen | None) -> list[Job]:
    """Say on every picture that is repainted what its painter has no place for."""
    if painter is None:
        return list(jobs)
    said = [painter.dropped(bool(job.plan.token_weights)) if job.plan.regions else [] for job in jobs]
    return [replace(job, warnings=(*job.warnings, *own)) for job, own in zip(jobs, said, strict=True)]


def painter_files() -> dict[str, Any]:
    """Return other packages' painters by name: a `SPEC` (`PainterSpec`) and a `load` from a device to a function."""
    return plugged_in("grefine.painters", "painter")


def _own_painter(
    paint: Callable[..., Sequence[Any]], spec: PainterSpec | None, origin: str, words: Any, side: int | None
) -> OwnPainter:
    """Return a function as painter, as its `spec` says."""
    wanted = inspect.signature(paint).parameters
    if not {"images", "masks"} & wanted.keys() and not any(p.kind is p.VAR_KEYWORD for p in wanted.values()):
        raise ConfigError(f"A painter is a function of images, masks, prompts and so on, not of {list(wanted)}.")
    spec = spec or getattr(paint, "spec", None)
    spec = spec or PainterSpec(getattr(paint, "__name__", type(paint).__name__).strip("<>_"))
    sees = {"sees_source": spec.sees_source, "phrasing": Phrasing.of(words or spec.words, "phrase first")}
    return OwnPainter(paint, origin, name=spec.name, side=side or spec.side, multiple=spec.multiple, **sees)


def _plain(pipe: Any) -> Any:
    """Return diffusers' own pipeline over the parts of one of ours."""
    if type(pipe).__name__ != "GRefinePipeline":
        return pipe
    if pipe.unet is None:
        raise ConfigError("The GRefinePipeline given as painter has none of its own: give a loaded pipeline.")
    return diffusers_class("StableDiffusionXLInpaintPipeline")(**{name: getattr(pipe, name) for name in SDXL})


def _load(where: str, painter_class: str | None, load: Mapping[str, Any]) -> Any:
    try:
        asked = {name: load[name] for name in (*FOR_BOTH, "revision") if name in load}
        stated = DiffusionPipeline.load_config(where, **asked).get("_class_name", "")
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:160].rstrip(".")
        raise WeightsMissing(f"The painter '{where}' is not on this machine and cannot be fetched: {said}.") from error
    if painter_class is None and stated == "GRefinePipeline":
        raise ConfigError(f"'{where}' is a GRefinePipeline: give it as the pipeline, or load it first.")
    family = family_named(stated)
    kind = diffusers_class(painter_class or (family.classes[0] if family else stated))
    try:
        return kind.from_pretrained(where, **load)
    except GRefineError:
        raise
    except Exception as error:  # whatever a foreign folder makes its readers raise
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".")
        raise ConfigError(f"'{where}' cannot be loaded as {kind.__name__}: {said}.") from error
