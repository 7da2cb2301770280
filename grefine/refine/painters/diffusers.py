"""Any loaded pipeline of diffusers as painter: inpainting, or image-to-image whose result counts under the mask."""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError
from grefine.refine.composite import resize, resize_mask, rounded
from grefine.refine.denoise import snap_mask
from grefine.refine.painters.families import Family, Phrasing, families, family_named
from grefine.refine.painters.protocol import CropJob, Painted, Painter, Painting
from grefine.refine.settings import UNetTraits
from grefine.refine.turns import denoiser_of, turn_of

OURS = {"prompt", "image", "mask_image", "height", "width", "strength", "num_inference_steps", "generator"}
OURS |= {"output_type", "return_dict", "callback_on_step_end", "callback_on_step_end_tensor_inputs", "negative_prompt"}
OURS |= {"num_images_per_prompt", "padding_mask_crop", "latents", "mask"}
"""Arguments of a pipeline's call that are filled here and cannot be given."""


@dataclass(frozen=True, kw_only=True)
class DiffusersPainter(Painter):
    """A loaded pipeline and what is known of its family."""

    pipe: Any
    family: Family
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The user's own, passed with every call."""
    assumed: str = ""
    """What was taken from the signature of a class that is not in the table, as a sentence."""
    origin: str = ""
    """Where it was loaded from: a recipe, a folder or a Hub id."""

    def dropped(self, crops_weighted: bool) -> list[str]:
        """Say what of the words this pipeline has no place for."""
        found = [self.assumed] if self.assumed else []
        if crops_weighted:
            found.append(f"{self.name} knows no weights of words: those of the prompt are dropped.")
        if not self._negated and self.painting.negative:  # the first refuses what lacks one that it needs
            found.append(f"{self.name} takes no negative prompt here: it is dropped.")
        return found

    def draw(self, crops: Sequence[CropJob]) -> list[Painted]:
        """Call the pipeline."""
        if self.painting.pipe.interrupt:
            return [Painted(crop.pixels, lost="the call was interrupted.") for crop in crops]
        with turn_of(self.pipe), _progress_of(self.painting, self.pipe), torch.no_grad():
            output = self.pipe(**self._call(crops))
        flagged = getattr(output, "nsfw_content_detected", None) or [False] * len(crops)
        if len(output.images) != len(crops):
            lost = f"{self.name} gave back {len(output.images)} pictures for {len(crops)} crops."
            return [Painted(crop.pixels, lost=lost) for crop in crops]
        black = f"the safety checker of {self.name} turned its result black."
        return [
            Painted(crop.pixels, lost=black)
            if bad
            else self.taken(np.asarray(image, dtype=np.float32) * 255, crop, self.family.resizes)
            for image, crop, bad in zip(output.images, crops, flagged, strict=True)
        ]

    def _call(self, crops: Sequence[CropJob]) -> dict[str, Any]:
        asked, accepted = self.painting, self._parameters
        cell = int(getattr(self.pipe, "vae_scale_factor", 8)) * self.family.cell
        (height, width), strength = crops[0].size, crops[0].strength
        wanted: dict[str, Any] = {
            "prompt": [crop.prompt for crop in crops],
            "image": [Image.fromarray(rounded(resize(crop.pixels, height, width))) for crop in crops],
            "mask_image": [_mask(crop, cell) for crop in crops],
            "height": height,
            "width": width,
            "strength": strength,
            "num_inference_steps": self.schedule(asked.steps, strength),
            "generator": [torch.Generator().manual_seed(crop.seed) for crop in crops],
            "output_type": "np",
            "max_area": height * width,
        }
        if self._scale is not None:
            wanted[self.family.guided_by] = self._scale
        if self._negated:
            default = self.family.negative or ""
            wanted["negative_prompt"] = [asked.negative_of(crop.job) or default for crop in crops]
        if "callback_on_step_end" in accepted:
            # Every step is counted, seen and changed by the caller's own callback, and stopped.
            watch, owner = asked.watch, asked.pipe
            watch.total += asked.steps

            def after_step(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
                del index
                changed = watch.after_step(owner, asked.stage, timestep, dict(tensors))
                if owner.interrupt:
                    pipe._interrupt = True
                return changed

            shown = [name for name in dict.fromkeys(["latents", *watch.names]) if name != "stage"]
            wanted |= {"callback_on_step_end": after_step, "callback_on_step_end_tensor_inputs": shown}
        given = {name: value for name, value in wanted.items() if name in accepted}
        return given | dict(self.family.arguments) | dict(self.arguments)

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.pipe.__call__).parameters

    @property
    def _scale(self) -> float | None:
        return self.painting.guidance if self.painting.guidance is not None else self.guidance

    @property
    def _negated(self) -> bool:
        """Whether this call has a use for a negative prompt."""
        name, accepted = self.family.negated_by, self._parameters
        if not name or not {name, "negative_prompt"} <= accepted.keys():
            return False
        chosen = self._scale if name == self.family.guided_by else accepted[name].default
        scale = self.arguments.get(name, chosen)
        if scale is None or scale <= 1.0:
            return False
        if self.painting.negative is None and self.family.negative is None and name != self.family.guided_by:
            raise ConfigError(f"{name}={scale:g} of {self.name} needs a negative prompt: pass one, or no {name}.")
        return True

    def schedule(self, steps: int, strength: float) -> int:
        """Return the steps to ask for so that exactly `steps` run, the first as near to the strength as can be."""
        if "strength" not in self._parameters:
            return steps
        scheduler, fit = self.pipe.scheduler, list[int]()
        trained, trial = int(scheduler.config.get("num_train_timesteps", 1000)), None
        if getattr(scheduler, "order", 1) == 1 and not hasattr(scheduler, "scale_noise"):
            trial = copy.deepcopy(scheduler)
            trial.set_timesteps(10)
            trial = trial if len(trial.timesteps) != 10 else None  # some run more than they are asked for, as PNDM
        for total in range(1, trained + 1):
            begun = total - executed(self.family.rule, total, strength)
            if trial is not None:
                trial.set_timesteps(total)
            runs = (total if trial is None else len(trial.timesteps)) - begun
            if begun < total and runs == steps:
                fit.append(total)
            elif begun < total and runs > steps:
                fit = fit or [total]
                break
        if fit:
            return min(fit, key=lambda total: abs(steps / total - strength))
        raise ConfigError(f"{steps} steps at strength {strength:g} do not fit into {trained} timesteps: take fewer.")


def executed(rule: str, total: int, strength: float) -> int:
    """Return how many of `total` steps diffusers runs at a strength."""
    if rule == "floor":
        return min(int(total * strength), total)
    return total - int(max(total - min(total * strength, total), 0))


def painter_of(
    pipe: Any, words: Any = None, side: int | None = None, arguments: Mapping[str, Any] | None = None
) -> DiffusersPainter:
    """Return a loaded pipeline of diffusers as painter; a text-to-image one lends its parts to one that inpaints."""
    family, assumed, origin = family_named(type(pipe).__name__), "", str(getattr(pipe, "name_or_path", None) or "")
    if family is not None:
        pipe = _inpainting(pipe, family)
    else:
        family, assumed = _assume(pipe)
    name, arguments, accepted = type(pipe).__name__, dict(arguments or {}), inspect.signature(pipe.__call__).parameters
    for given in arguments:
        if given in OURS or given not in accepted:
            why = "is filled by grefine" if given in OURS else "is no argument of its call"
            raise ConfigError(f"painter_arguments: '{given}' {why} ({name}): leave it out.")
    denoiser = denoiser_of(pipe)
    if not family.fp16 and getattr(denoiser, "dtype", None) == torch.float16:
        raise ConfigError(f"{name} breaks in float16: load it with dtype=torch.bfloat16 (`--dtype bf16`) or float32.")
    scale = int(getattr(pipe, "vae_scale_factor", 8))
    levels = getattr(getattr(getattr(pipe, "unet", None), "config", None), "block_out_channels", None)
    multiple = scale * (2 ** (len(levels) - 1) if levels else family.cell)
    stated = getattr(getattr(denoiser, "config", None), "sample_size", None)
    trained = getattr(pipe, "default_sample_size", None) or stated
    side = side or (int(trained) * scale if isinstance(trained, int) and trained > 1 else family.side)
    if side < multiple:
        raise ConfigError(f"working_size {side} is below {multiple}, the least side of {name}: give a multiple of it.")
    distilled = bool(pipe.config.get("is_distilled", False))
    quick = family.distilled if distilled else None
    return DiffusersPainter(
        name=name,
        side=side,
        multiple=multiple,
        traits=UNetTraits(strengths=family.strengths),
        sees_source=family.sees_source,
        phrasing=Phrasing.of(words, family.words),
        steps=quick or family.steps,
        restorer="none" if quick else family.restorer,
        guidance=1.0 if distilled else family.guidance,
        # Classifier-free guidance is left out of stage 2, embedded guidance stays as it is.
        unguided=1.0 if family.negated_by == family.guided_by else None,
        pipe=pipe,
        family=family,
        arguments=arguments,
        assumed=assumed,
        origin=origin,
    )


def diffusers_class(name: str) -> Any:
    """Return a class of diffusers' pipelines."""
    found = getattr(diffusers, name, None)
    if found is None or not isinstance(found, type) or getattr(found, "_is_dummy", False):
        family = family_named(name)
        since = f", which came with diffusers {family.since}" if family else ""
        raise ConfigError(f"The installed diffusers {diffusers.__version__} has no class '{name}'{since}.")
    return found


def _inpainting(pipe: Any, family: Family) -> Any:
    """Return the family's inpainting pipeline over the same parts."""
    wanted = family.classes[0]
    if type(pipe).__name__ == wanted:
        return pipe
    kind = diffusers_class(wanted)
    accepted = inspect.signature(kind.__init__).parameters
    parts = {name: part for name, part in pipe.components.items() if name in accepted}
    settings = {name: value for name, value in pipe.config.items() if name in accepted and name not in pipe.components}
    needed = [name for name, parameter in accepted.items() if parameter.default is inspect.Parameter.empty]
    lacking = [name for name in needed if name not in {"self", *parts, *settings}]
    if lacking:
        raise ConfigError(f"{type(pipe).__name__} has no {', '.join(lacking)}, which {wanted} needs: load {wanted}.")
    return kind(**parts, **settings)


def _assume(pipe: Any) -> tuple[Family, str]:
    """Read a family out of a signature, and say what was assumed."""
    name = type(pipe).__name__
    parameters = inspect.signature(pipe.__call__).parameters
    if not {"prompt", "image"} <= parameters.keys() or "control_image" in parameters:
        known = ", ".join(family.classes[0] for family in families())
        raise ConfigError(f"{name} cannot inpaint (no prompt and image alone in its call): load one of {known}.")
    edits = "strength" not in parameters
    rule = "rest" if hasattr(pipe.scheduler, "scale_noise") else "floor"
    guided_by = next((n for n in ("true_cfg_scale", "guidance_scale") if n in parameters), "guidance_scale")
    how = "inpaints" if "mask_image" in parameters else "edits the whole crop, of which the masked part is taken"
    default = parameters[guided_by].default if guided_by in parameters else None
    family = Family(
        name,
        (name,),
        since="",
        licence="that of its weights",
        rule=rule,
        guided_by=guided_by,
        guidance=default if isinstance(default, (int, float)) else None,
        negative=" " if guided_by == "true_cfg_scale" else None,
        negated_by=guided_by if "negative_prompt" in parameters else "",
        words="instruction" if edits else "phrase first",
        sees_source="mask_image" not in parameters,
        resizes="height" not in parameters,
    )
    told = "words as an instruction" if edits else "the phrase before the caption"
    assumed = f"assumed from its call: it {how}, {told}, step rule '{rule}'."
    return family, f"{name} is not in the table of painters; {assumed}"


def _mask(crop: CropJob, cell: int) -> Image.Image:
    """Return the mask at the painter's size, grown to whole cells so that nothing leaks through half-covered ones."""
    mask: Tensor = torch.from_numpy(resize_mask(crop.mask, *crop.size)).float()[None, None]
    return Image.fromarray((snap_mask(mask, cell)[0, 0].numpy() * 255).astype(np.uint8))


@contextmanager
def _progress_of(painting: Painting, pipe: Any) -> Iterator[None]:
    """Let a pipeline count its steps on our bar."""
    before = getattr(pipe, "_progress_bar_config", None)
    pipe._progress_bar_config = {"desc": painting.stage, **getattr(painting.pipe, "_progress_bar_config", {})}
    try:
        yield
    finally:
        if before is None:
            del pipe._progress_bar_config
        else:
            pipe._progress_bar_config = before
