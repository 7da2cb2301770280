"""The denoising loop of both stages, over the parts that a pipeline has at the moment: users swap them."""

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from grefine.errors import ConfigError
from grefine.refine.guidance import Steering
from grefine.refine.settings import StepsMode
from grefine.refine.vae import decode_latents, encode_images

TENSORS = ("latents", "prompt_embeds", "add_text_embeds", "add_time_ids", "mask", "masked_image_latents")
"""What a step callback may ask for and give back; `stage` comes with every call."""


@dataclass
class Watch:
    """Counts the steps of a whole call and lets the user's callback see and change each."""

    callback: Callable[..., dict[str, Any]] | None = None
    names: Sequence[str] = ("latents",)
    index: int = 0
    total: int = 0
    """Steps of all batches that were begun."""

    def after_step(self, pipe: Any, stage: str, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """Call back with the asked tensors and return all of them, changed or not."""
        if self.callback is not None:
            asked = {name: stage if name == "stage" else tensors[name] for name in ("stage", *self.names)}
            answer = self.callback(pipe, self.index, timestep, asked)
            tensors |= {name: answer[name] for name in TENSORS if name in answer}
        self.index += 1
        return tensors


@dataclass(frozen=True)
class Embeddings:
    """What the denoiser is told: with and without the prompt."""

    prompt: Tensor
    """`(B, chunks * L, D)`, both encoders side by side."""
    pooled: Tensor
    """`(B, D2)`"""
    negative: Tensor | None = None
    negative_pooled: Tensor | None = None

    @classmethod
    def stack(cls, rows: Sequence[Self]) -> Self:
        """Put equally shaped rows into one batch."""
        columns = zip(*((row.prompt, row.pooled, row.negative, row.negative_pooled) for row in rows), strict=True)
        return cls(*(None if column[0] is None else torch.cat(column) for column in columns))


@dataclass
class CropBatch:
    """Equally large crops that are denoised in one go."""

    images: Tensor
    """`(B, 3, H, W)` in -1..1."""
    masks: Tensor
    """`(B, 1, H, W)`, 1 = repaint, snapped to the latent grid."""
    embeddings: Embeddings
    strength: float
    steps: int
    seeds: list[int]
    stage: str
    source_visible: bool = False
    """Leave what lies under the masks visible in the masked-image channels."""
    steps_mode: StepsMode = "executed"
    guidance: float | None = None
    """A constant guidance scale; None follows the pipeline's, which a callback may change."""
    control: bool = False
    """Hold structure with the pipeline's tile ControlNet, shown the crop itself."""
    noise: Tensor | None = None
    """Given noise instead of seeded noise."""
    steering: Steering | None = None
    generators: list[torch.Generator] = field(init=False)

    def __post_init__(self) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]


def latent_multiple(pipe: Any) -> int:
    """Return what crop sides must be multiples of: one latent cell of the UNet's coarsest level."""
    return pipe.vae_scale_factor * 2 ** (len(pipe.unet.config.block_out_channels) - 1)


def snap_mask(mask: Tensor, cell: int) -> Tensor:
    """Grow a `(B, 1, H, W)` mask to whole latent cells, so that nothing leaks through half-covered ones."""
    return F.interpolate(F.max_pool2d(mask, cell), scale_factor=cell, mode="nearest")


@torch.no_grad()
def denoise(pipe: Any, crops: CropBatch, watch: Watch) -> Tensor:
    """Denoise crops under their masks and return their latents. (QKV of Eq. 9)"""
    device, dtype = pipe._execution_device, pipe.unet.dtype
    count = crops.images.shape[0]
    # A copy: other pipelines that share the components may be counting steps of their own.
    scheduler = copy.deepcopy(pipe.scheduler)
    timesteps, steps = choose_timesteps(scheduler, crops.steps, crops.strength, device, crops.steps_mode)
    watch.total += len(timesteps)
    clean = _encode(pipe.vae, crops.images, device).to(dtype)
    noise = crops.noise
    if noise is None:
        noise = torch.stack([torch.randn(tuple(clean.shape[1:]), generator=one) for one in crops.generators])
    elif noise.shape != clean.shape:
        raise ConfigError(f"`latents` is {tuple(noise.shape)} where {tuple(clean.shape)} is needed: leave it out.")
    noise = noise.to(device, dtype)
    latents = scheduler.add_noise(clean, noise, timesteps[:1].repeat(count))
    mask = F.interpolate(crops.masks, size=clean.shape[-2:]).to(device, dtype)
    masked = None
    if pipe.unet.config.in_channels == 9:
        hidden = crops.images * (crops.masks < 0.5)
        masked = clean if crops.source_visible else _encode(pipe.vae, hidden, device).to(dtype)
    elif pipe.unet.config.in_channels != 4:
        raise ConfigError(f"The UNet has {pipe.unet.config.in_channels} input channels; 4 and 9 can be used.")
    tensors = _condition(pipe, crops, device, dtype) | {"mask": mask, "masked_image_latents": masked}
    accepted = inspect.signature(scheduler.step).parameters
    extra = {"generator": crops.generators} if "generator" in accepted else {}
    order = getattr(scheduler, "order", 1)
    with pipe.progress_bar(total=steps) as bar:
        bar.set_description(crops.stage)
        for index, timestep in enumerate(timesteps):
            if pipe.interrupt:
                break
            prediction = _predict(pipe, scheduler, crops, latents, timestep, tensors)
            if crops.steering is not None:
                prediction = crops.steering(scheduler, pipe.vae, prediction, latents, timestep)
            latents = scheduler.step(prediction, timestep, latents, **extra, return_dict=False)[0].to(dtype)
            if masked is None:
                following = timesteps[index + 1 : index + 2]
                kept = scheduler.add_noise(clean, noise, following.repeat(count)) if len(following) else clean
                latents = (1 - tensors["mask"]) * kept + tensors["mask"] * latents
            tensors = watch.after_step(pipe, crops.stage, timestep, tensors | {"latents": latents})
            latents = tensors["latents"]
            if (index + 1) % order == 0 or index == len(timesteps) - 1:
                bar.update()
    return latents


def choose_timesteps(
    scheduler: Any, steps: int, strength: float, device: Any, mode: StepsMode = "executed"
) -> tuple[Tensor, int]:
    """Set the scheduler up, as `UNetTraits.steps_mode` has it, and return the timesteps to run and how many steps."""
    name, trained = type(scheduler).__name__, int(scheduler.config.get("num_train_timesteps", 1000))
    if not 0.0 < strength <= 1.0:
        raise ConfigError(f"strength must lie above 0 and up to 1, not {strength}.")
    first, total = min(max(round(strength * trained) - 1, 1), trained - 1), steps
    if mode == "schedule":
        steps = max(1, int(steps * strength + 1e-9))
    elif mode == "executed":
        total = math.ceil(steps / strength - 1e-9)
    most = first if mode == "noise" else max(1, int(trained * strength + 1e-9))
    if total > trained or steps > most:
        raise ConfigError(f"{steps} steps are too many at strength {strength:g}: {name} takes at most {most} there.")
    accepted = inspect.signature(scheduler.set_timesteps).parameters
    try:
        if "strength" in accepted and mode != "schedule":  # made for few steps: they spread their own over it
            scheduler.set_timesteps(steps, device=device, strength=strength)
            return scheduler.timesteps, steps
        if mode == "noise":
            return _from_noise(scheduler, steps, first, device, "timesteps" in accepted), steps
        scheduler.set_timesteps(total, device=device)
    except (ValueError, TypeError, IndexError) as error:
        raise ConfigError(f"{name} cannot run {steps} steps at strength {strength:g}: {error}") from error
    timesteps = _begin(scheduler, (total - steps) * getattr(scheduler, "order", 1))
    if len(timesteps) < steps:
        raise ConfigError(f"{name} offers {len(timesteps)} of {steps} steps at strength {strength:g}: ask for fewer.")
    return timesteps, steps


def _from_noise(scheduler: Any, steps: int, first: int, device: Any, takes_timesteps: bool) -> Tensor:
    """Set a scheduler up for `steps` steps below the timestep `first`, evenly, or as near as its own come."""
    if takes_timesteps:
        wanted = [round(first * (steps - index) / steps) for index in range(steps)]
        with suppress(ValueError, NotImplementedError):  # e.g. Karras' sigmas, which take no timesteps of one's own
            scheduler.set_timesteps(timesteps=wanted, device=device)
            return _begin(scheduler, 0)
    if scheduler.config.get("timestep_spacing") == "leading":  # whose first step lies a whole step below the top
        scheduler.register_to_config(timestep_spacing="trailing")
    trained = int(scheduler.config.get("num_train_timesteps", 1000))
    order = getattr(scheduler, "order", 1)

    def begins(total: int) -> float:
        scheduler.set_timesteps(total, device=device)
        return float(scheduler.timesteps[(total - steps) * order])

    # A longer schedule begins its last steps lower; a shorter one than the steps there is none.
    low, high = steps, min(trained, math.ceil(2 * steps * trained / first))
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if begins(middle) > first else (low, middle)
    begins(low)
    return _begin(scheduler, (low - steps) * order)


def _begin(scheduler: Any, index: int) -> Tensor:
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(index)
    return scheduler.timesteps[index:]


def decode(pipe: Any, latents: Tensor) -> Tensor:
    """Decode latents to `(B, 3, H, W)` in 0..1, float32 on the CPU."""
    return (decode_latents(pipe.vae, latents) / 2 + 0.5).clamp(0, 1).float().cpu()


@torch.no_grad()
def finished(finisher: Any, painted: Tensor, crops: CropBatch) -> Tensor:
    """Put back into decoded crops `(B, 3, H, W)` in 0..1 what was lost of their sources on the way."""
    given = (x.to(finisher.device, finisher.dtype) for x in (crops.images / 2 + 0.5, painted, crops.masks))
    return finisher(*given).clamp(0, 1).float().cpu()


def _encode(vae: Any, images: Tensor, device: torch.device) -> Tensor:
    """Encode pictures, equal ones once: tries at one region differ only in their noise."""
    if len(images) == 1:
        return encode_images(vae, images, device)
    first: dict[bytes, int] = {}
    rows = [first.setdefault(image.numpy().tobytes(), len(first)) for image in images.cpu().float()]
    if len(first) == len(images):
        return encode_images(vae, images, device)
    return encode_images(vae, images[[rows.index(row) for row in range(len(first))]], device)[rows]


def _condition(pipe: Any, crops: CropBatch, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    words = crops.embeddings
    count, (height, width) = crops.images.shape[0], crops.images.shape[-2:]
    if pipe.config.requires_aesthetics_score:
        ids, negative_ids = [height, width, 0, 0, 6.0], [height, width, 0, 0, 2.5]
    else:
        ids = negative_ids = [height, width, 0, 0, height, width]
    times = torch.tensor([ids] * count, device=device, dtype=dtype)
    prompt, pooled = words.prompt, words.pooled
    if _scales(pipe, crops)[1] > 1.0 and words.negative is not None and words.negative_pooled is not None:
        prompt, pooled = torch.cat([words.negative, prompt]), torch.cat([words.negative_pooled, pooled])
        times = torch.cat([torch.tensor([negative_ids] * count, device=device, dtype=dtype), times])
    told = {"prompt_embeds": prompt.to(device, dtype), "add_text_embeds": pooled.to(device, dtype)}
    return told | {"add_time_ids": times}


def _predict(
    pipe: Any, scheduler: Any, crops: CropBatch, latents: Tensor, timestep: Any, tensors: dict[str, Any]
) -> Tensor:
    count, (asked, scale) = latents.shape[0], _scales(pipe, crops)
    words = [tensors[name] for name in ("prompt_embeds", "add_text_embeds", "add_time_ids")]
    doubled = words[0].shape[0] == 2 * count
    if doubled and scale <= 1.0:
        words, doubled = [word[count:] for word in words], False
    times = 2 if doubled else 1
    noisy = scheduler.scale_model_input(torch.cat([latents] * times), timestep)
    added = {"text_embeds": words[1], "time_ids": words[2]}
    given: dict[str, Any] = {"encoder_hidden_states": words[0], "added_cond_kwargs": added, "return_dict": False}
    residuals = {}
    if crops.control:
        shown = (crops.images / 2 + 0.5).to(noisy.device, noisy.dtype)
        down, middle = pipe.controlnet(noisy, timestep, controlnet_cond=torch.cat([shown] * times), **given)
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    if tensors["masked_image_latents"] is not None:
        seen = torch.cat([tensors["mask"], tensors["masked_image_latents"]], dim=1)
        noisy = torch.cat([noisy, torch.cat([seen] * times)], dim=1)
    size = pipe.unet.config.time_cond_proj_dim
    if size is not None:
        every = torch.full((noisy.shape[0],), (asked - 1.0) * 1000.0, device=noisy.device)
        told = get_timestep_embedding(every, size, flip_sin_to_cos=False, downscale_freq_shift=1)
        given["timestep_cond"] = told.to(noisy.dtype)
    attention = pipe.cross_attention_kwargs
    prediction = pipe.unet(noisy, timestep, cross_attention_kwargs=attention, **given, **residuals)[0]
    if doubled:
        without, prompted = prediction.chunk(2)
        prediction = without + scale * (prompted - without)
    return prediction


def _scales(pipe: Any, crops: CropBatch) -> tuple[float, float]:
    """Return the scale of guidance, and that of classifier-free guidance: 1 for a UNet that is told it (LCM)."""
    asked = pipe.guidance_scale if crops.guidance is None else crops.guidance
    return asked, 1.0 if pipe.unet.config.time_cond_proj_dim is not None else asked
