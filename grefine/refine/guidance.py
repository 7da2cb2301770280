"""Steer denoising by named qualities: MDIQA's dimensions and MoE-AGIQA as differentiable preferences.

The predicted clean image is moved a little along the judges' gradient, at each step. Who steers is never evidence.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from grefine.errors import ConfigError, PromptError, WeightsMissing, nearest
from grefine.models.clip_surgery import CLIP_MEAN, CLIP_STD
from grefine.models.mdiqa import DIMENSIONS, MDIQA
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.refine.vae import latent_gradient, rows_at_once
from grefine.scorers.protocol import Scorer, tokens

WHOLE = ("mdiqa", "moe-agiqa")
"""Preferences beside the nine dimensions: MDIQA's overall score, and MoE-AGIQA's mean over what it rates."""
PREFERENCES = (*DIMENSIONS, *WHOLE)


class Guidance:
    """A weighted preference, by dimension, "mdiqa" or "moe-agiqa", with a gradient for an image."""

    def __init__(
        self,
        weights: Mapping[str, float],
        mdiqa: MDIQA | None = None,
        moe_agiqa: MoEAGIQA | None = None,
        tokenizer: Any = None,
    ) -> None:
        self.weights = {name: value for name, value in check_preferences(weights).items() if value}
        if not self.weights:
            raise ConfigError("guidance has no weight other than zero: leave it out instead.")
        self.mdiqa, self.moe_agiqa, self.tokenizer = mdiqa, moe_agiqa, tokenizer
        asked = ", ".join(name for name in self.weights if name != "moe-agiqa")
        if asked and mdiqa is None:
            raise WeightsMissing(f"guidance by {asked} needs MDIQA, which this pipeline does not carry.")
        if "moe-agiqa" in self.weights and (moe_agiqa is None or tokenizer is None):
            raise WeightsMissing("guidance by moe-agiqa needs MoE-AGIQA and its tokenizer, which are not both here.")
        for model in (mdiqa, moe_agiqa):
            if model is not None:
                model.eval()

    @property
    def strength(self) -> float:
        """The sum of the weights' sizes: how hard each step pushes."""
        return sum(abs(value) for value in self.weights.values())

    @property
    def steers(self) -> tuple[str, ...]:
        """Component names of the judges that steer, which must not judge the result."""
        return steers_of(self.weights)

    def preference(self, image: Tensor, prompts: Sequence[str] | None = None) -> Tensor:
        """Return the weighted sum of scores `(B,)` of images `(B, 3, H, W)` in 0..1."""
        total = image.new_zeros(len(image))
        chosen = [name for name in DIMENSIONS if name in self.weights]
        whole = "mdiqa" in self.weights
        if (chosen or whole) and self.mdiqa is not None:
            seen = image.to(next(self.mdiqa.parameters()))
            out = self.mdiqa(seen, detach_weights=True) if whole else self.mdiqa.score(seen, chosen)
            values = {name: out.dimensions[name] for name in chosen} | ({"mdiqa": out.overall} if whole else {})
            for name, value in values.items():
                total = total + self.weights[name] * value.to(total)  # pyright: ignore[reportOptionalMemberAccess]
        if "moe-agiqa" in self.weights and self.moe_agiqa is not None:
            seen = image.to(next(self.moe_agiqa.parameters()))
            total = total + self.weights["moe-agiqa"] * self._moe(seen, prompts).to(total)
        return total

    def gradient(self, image: Tensor, prompts: Sequence[str] | None = None) -> Tensor:
        """Return how the preference grows with each pixel: `(B, 3, H, W)`; large images are judged one by one."""
        rows, found = rows_at_once(image), []
        with torch.enable_grad(), frozen(self.mdiqa, self.moe_agiqa):
            for start in range(0, len(image), rows):
                leaf = image[start : start + rows].detach().requires_grad_(True)
                own = None if prompts is None else prompts[start : start + rows]
                found.append(torch.autograd.grad(self.preference(leaf, own).sum(), leaf)[0])
        return torch.cat(found)

    def _moe(self, image: Tensor, prompts: Sequence[str] | None) -> Tensor:
        """Return the mean over tiles that cover the image, under a prompt that read all of it."""
        model, tokenizer = self.moe_agiqa, self.tokenizer
        assert model is not None, "seen to when this was made"
        assert tokenizer is not None, "seen to when this was made"
        if prompts is None or len(prompts) != len(image) or not all(p.strip() for p in prompts):
            raise PromptError("guidance by moe-agiqa needs one prompt with words in it per image.")
        view, side = image, model.config["image_size"]
        if view.shape[-2:] != (side, side):
            view = F.interpolate(view, (side, side), mode="bicubic", align_corners=False, antialias=True)
        mean, std = (view.new_tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
        given = tokens(tokenizer, prompts, model.config["text_length"], image.device)
        words = model.encode_prompt((view - mean) / std, *given)

        def rated(tile: Tensor, words: Tensor) -> Tensor:
            prior = model.prior_features(tile)
            prior = None if prior is None else prior[:, None]
            return model.head(model.crop_features(tile)[:, None], words, prior).scores.mean(dim=(1, 2))

        tiles = _tiles(image, model.config["crop_size"])
        if len(tiles) == 1:
            return rated(tiles[0], words)
        # One tile's activations at a time: what is kept otherwise grows with the image.
        scores = [checkpoint(rated, tile, words, use_reentrant=False) for tile in tiles]
        return torch.stack(scores).mean(dim=0)  # pyright: ignore[reportArgumentType]


class Steering:
    """Move the UNet's prediction along the gradient of a `Guidance`, at every step of the denoising loop.

    Latents move by a root mean square of `step` at full noise, less with less; above `start` of it nothing is guided.
    """

    def __init__(
        self, guidance: Guidance, prompts: Sequence[str] | None = None, step: float = 0.15, start: float = 0.95
    ) -> None:
        self.guidance, self.prompts, self.step, self.start = guidance, prompts, step, start

    def __call__(self, scheduler: Any, vae: Any, prediction: Tensor, latents: Tensor, timestep: Any) -> Tensor:
        """Return the moved prediction; the last step is always guided, however few there are."""
        signal, noise = noise_levels(scheduler, timestep, latents)
        share = noise / math.hypot(signal, noise)
        if share > self.start and timestep != scheduler.timesteps[-1]:
            return prediction
        kind = scheduler.config.get("prediction_type", "epsilon")
        clean = clean_latents(kind, prediction.float(), latents.float(), signal, noise)
        gradient = self.gradient(vae, clean)
        scale = gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
        moved = clean + self.step * self.guidance.strength * share * gradient / scale
        return as_prediction(kind, moved, latents.float(), signal, noise).to(prediction.dtype)

    def gradient(self, vae: Any, clean: Tensor) -> Tensor:
        """Return how the preference grows with each clean latent."""

        def of_pixels(decoded: Tensor) -> Tensor:
            image = decoded.float() / 2 + 0.5
            inside = (image > 0) & (image < 1)
            return self.guidance.gradient(image.clamp(0, 1), self.prompts) * inside / 2

        with frozen(vae):
            return latent_gradient(vae, clean, of_pixels)


@contextmanager
def frozen(*models: nn.Module | None) -> Iterator[None]:
    """Keep the graph free of what only gradients of weights need: most of its memory."""
    trained = [p for model in models if isinstance(model, nn.Module) for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def taken_axes(judges: Iterable[Scorer], left: Iterable[Scorer], steers: Iterable[str]) -> str:
    """Say which axis loses its last judge where those that steer are left out; empty where none does."""
    lost = sorted(axes_of(judges) - axes_of(left), reverse=True)
    words = [{"perceptual": "quality", "alignment": "the prompt"}[axis] for axis in lost]
    if not words:
        return ""
    return (
        f"Steering by {' and '.join(sorted(steers))} takes the only judge of {' and '.join(words)} away from the "
        "guard: there the maps judge their own work. Steer by another, or add a judge (--judge NAME[=DIR], scorers=)."
    )


def axes_of(judges: Iterable[Scorer]) -> set[str]:
    """Return what judges see: perceptual, alignment."""
    axes = {judge.spec.axis for judge in judges}
    return {"perceptual", "alignment"} if "both" in axes else {str(axis) for axis in axes}


def steers_of(weights: Mapping[str, float]) -> tuple[str, ...]:
    """Return the component names of the judges that preferences need."""
    used = [name for name, value in check_preferences(weights).items() if value]
    return tuple(sorted({"moe_agiqa" if name == "moe-agiqa" else "mdiqa" for name in used}))


def check_preferences(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights under their own names, any spelling of hyphens accepted."""
    found = {}
    for name, value in weights.items():
        plain = str(name).strip().lower().replace("_", "-")
        if plain not in PREFERENCES:
            raise ConfigError(f"guidance knows {', '.join(PREFERENCES)}; not '{name}'{nearest(plain, PREFERENCES)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            raise ConfigError(f"guidance: the weight of '{name}' must be a number, not {value!r}.")
        found[plain] = float(value)
    return found


def noise_levels(scheduler: Any, timestep: Any, latents: Tensor) -> tuple[float, float]:
    """Return (signal, noise) such that latents = signal * clean + noise * epsilon, as the scheduler itself has it."""
    one = torch.ones(1, 1, 1, 1, device=latents.device)
    if hasattr(scheduler, "precondition_inputs") or not hasattr(scheduler, "add_noise"):
        raise ConfigError(f"guidance cannot read noise of {type(scheduler).__name__}: use DDIM, Euler or DPM-Solver.")
    scaled = float(scheduler.scale_model_input(one, timestep))
    if scaled != 1.0:
        return 1.0, math.sqrt(1.0 / scaled**2 - 1.0)
    times = torch.as_tensor(timestep, device=latents.device).reshape(1)
    signal, noise = (float(scheduler.add_noise(*pair, times)) for pair in ((one, 0 * one), (0 * one, one)))
    return signal, noise


def clean_latents(kind: str, prediction: Tensor, latents: Tensor, signal: float, noise: float) -> Tensor:
    """Return the clean latents that a prediction of `kind` implies."""
    if kind == "sample":
        return prediction
    if kind == "epsilon":
        return (latents - noise * prediction) / max(signal, 1e-4)
    if kind == "v_prediction":
        total = signal**2 + noise**2
        # With signal and noise on the unit circle this is signal * latents - noise * v.
        return signal * latents / total - noise * prediction / total**0.5
    raise ConfigError(f"guidance cannot read a prediction of type '{kind}'; epsilon, v_prediction and sample it can.")


def as_prediction(kind: str, clean: Tensor, latents: Tensor, signal: float, noise: float) -> Tensor:
    """Return the prediction of `kind` that implies these clean latents: the inverse of `clean_latents`."""
    if kind == "sample":
        return clean
    if kind == "epsilon":
        return (latents - signal * clean) / max(noise, 1e-4)
    total = signal**2 + noise**2
    return (signal * latents / total - clean) * total**0.5 / max(noise, 1e-4)


def _tiles(image: Tensor, size: int) -> list[Tensor]:
    """Cut the fewest squares that cover the whole image; what is smaller than one is put on black first."""
    height, width = image.shape[-2:]
    short = [max(0, size - width), max(0, size - height)]
    image = F.pad(image, [short[0] // 2, short[0] - short[0] // 2, short[1] // 2, short[1] - short[1] // 2])
    counts = [math.ceil(side / size) for side in image.shape[-2:]]
    tops, lefts = (
        torch.linspace(0, side - size, count).round().int().tolist()
        for side, count in zip(image.shape[-2:], counts, strict=True)
    )
    return [image[..., top : top + size, left : left + size] for top in tops for left in lefts]
