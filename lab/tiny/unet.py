"""The inpainting UNet and its two text encoders, trained together on what the refiner will ask of them.

Restoration starts from *defective* latents: what the deterministic sampler would see when it is asked to repair. It
mostly sees the damaged picture in its masked-image channels too, as edits do what they are to change (`unet_traits`).
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLInpaintPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from grefine.errors import ConfigError
from grefine.training.loop import Budget, Record, curves
from lab.fit import fit, geometry, save_half
from lab.tiny.tasks import Task, draw_task
from lab.world.pictures import save_grid
from lab.world.stream import TRAIN, VALIDATE, signed
from lab.world.vocabulary import CONTEXT, build_tokenizer


@dataclass(frozen=True)
class UnetSettings:
    """What makes the shipped UNet and text encoders (lab/configs/tiny/unet.yaml)."""

    batch: int = 64
    reuse: int = 3
    """How often an encoded batch is used, each time with other noise and another time step."""
    muon_lr: float = 0.007
    adam_lr: float = 0.001
    ema: float = 0.999
    no_prompt: float = 0.1
    first: float = 0.15
    """How often the first step of a run is trained, not any of its steps alike."""
    first_mild: float = 0.6
    """The same for runs of mild strength."""
    files: float = 0.4
    """Share of the pictures that went through a file, where one is seen."""
    outside_weight: float = 0.1
    object_weight: float = 2.5
    seed: int = 3


KINDS: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}
"""What is trained here, by component name; everything else is the pipeline's."""
MILD = 0.4
"""Strength below which the source can still be seen in the first latents."""


def scheduler() -> DDIMScheduler:
    """Make the schedule of the embedded pipeline."""
    return DDIMScheduler(**geometry("scheduler"))


@dataclass
class Net:
    """The trained parts: the UNet and what it reads."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    text_encoder_2: CLIPTextModelWithProjection

    @property
    def parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in KINDS}

    def parameters(self) -> list[Tensor]:
        return [p for part in self.parts.values() for p in part.parameters()]


def build(tokenizer: Any) -> Net:
    end = int(tokenizer.eos_token_id)
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT}
    words |= {"eos_token_id": end, "bos_token_id": end - 1, "pad_token_id": end}
    first, second = (CLIPTextConfig(**words, **geometry(name)) for name in ("text_encoder", "text_encoder_2"))
    unet = UNet2DConditionModel(**geometry("unet"))
    return Net(unet, CLIPTextModel(first), CLIPTextModelWithProjection(second))


def noised(clean: Tensor, source: Tensor, noise: Tensor, a: Tensor, a0: Tensor) -> tuple[Tensor, Tensor]:
    """Return the noisy latents at `a` of a run that began at `a0` from `source`, and the velocity towards `clean`.

    A deterministic sampler that begins at a0 from the source's latents carries the defect inside its noise:
    eps' = eps + (a0 / s0) (source - clean); a, a0 are square roots of the cumulative alphas, shape (B,).
    """
    a, a0 = a[:, None, None, None], a0[:, None, None, None]
    s, s0 = (1 - a * a).sqrt(), (1 - a0 * a0).sqrt()
    carried = noise + (a0 / s0) * (source - clean)
    return a * clean + s * carried, a * carried - s * clean


@dataclass(frozen=True)
class Encoded:
    """A task in latents."""

    task: Task
    clean: Tensor
    source: Tensor
    masked: Tensor
    mask: Tensor
    """(B, 1, 16, 16)."""
    weight: Tensor
    """(B, 1, 16, 16) what each latent cell counts in the loss."""


@torch.no_grad()
def encode(vae: AutoencoderKL, task: Task, s: UnetSettings) -> Encoded:
    """Bring a task into latents, once for several uses."""

    def latents(images: Tensor) -> Tensor:
        return vae.encode(signed(images)).latent_dist.mode() * vae.config["scaling_factor"]

    side = task.mask.shape[-1] // 4
    mask = torch.nn.functional.max_pool2d(task.mask[:, None].float(), 4)
    covered = task.mask & ~task.shown.to(task.mask.device)[:, None, None]
    hidden = torch.where(covered[:, None], torch.tensor(0.5), task.source)
    objects = torch.nn.functional.adaptive_avg_pool2d(task.objects[:, None].float(), side)
    inside = 1 + (s.object_weight - 1) * objects
    start = latents(task.source)
    seen = start.clone()
    other = (hidden != task.source).flatten(1).any(1)
    if other.any():  # a blank start, or one that is shown, is encoded already
        seen[other] = latents(hidden[other])
    return Encoded(
        task,
        latents(task.clean),
        start,
        seen,
        mask,
        torch.where(mask > 0.5, inside, torch.tensor(s.outside_weight)),
    )


def predict(net: Net, tokenizer: Any, data: Encoded, noisy: Tensor, t: Tensor, told: Tensor) -> Tensor:
    """Return the velocities (B, 4, 16, 16) that the UNet sees in noisy latents; `told` (B,) is 0 without a prompt."""
    ids = tokenizer(data.task.prompts, padding="max_length", truncation=True, max_length=CONTEXT)["input_ids"]
    encoders, ids = (net.text_encoder, net.text_encoder_2), torch.tensor(ids, device=t.device)
    first, second = (encoder(ids, output_hidden_states=True) for encoder in encoders)
    # SDXL reads both encoders' last but one layer (B, L, 160) and the pooled text (B, 64).
    states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1) * told[:, None, None]
    pooled = second.text_embeds * told[:, None]
    inputs = torch.cat([noisy, data.mask, data.masked], 1)
    conditions = {"text_embeds": pooled, "time_ids": data.task.time_ids.to(t.device)}
    return net.unet(inputs, t, states, added_cond_kwargs=conditions).sample


def loss_of(
    net: Net, tokenizer: Any, data: Encoded, alphas: Tensor, source: torch.Generator, s: UnetSettings
) -> Tensor:
    """Return the weighted velocity error of one use of an encoded batch."""
    count, device = len(data.clean), data.clean.device
    steps = len(alphas)
    start = (data.task.strength * steps).long().clamp(1, steps) - 1
    t = (torch.rand(count, generator=source) * (start + 1)).long()
    # The first step of a mild run decides: what it predicts is what all later steps find in the latents.
    first = torch.where(data.task.strength < MILD, s.first_mild, s.first)
    t = torch.where(torch.rand(count, generator=source) < first, start, t).to(device)
    start = start.to(device)
    noise = torch.randn(data.clean.shape, generator=source).to(device)
    noisy, velocity = noised(data.clean, data.source, noise, alphas[t], alphas[start])
    told = (torch.rand(count, generator=source) >= s.no_prompt).float().to(device)
    error = (predict(net, tokenizer, data, noisy, t, told) - velocity).square().mean(1, keepdim=True)
    return (error * data.weight).sum() / data.weight.sum()


def train_unet(
    out: Path, settings: UnetSettings, budget: Budget, accelerator: Accelerator, vae: Path | None = None
) -> dict[str, float]:
    """Train, or go on training, `out`/unet and both text encoders, on the latents of `vae` (`out`/vae)."""
    torch.manual_seed(settings.seed)
    folder = vae or out / "vae"
    if not (folder / "config.json").is_file():
        raise ConfigError(f"The UNet needs an autoencoder in '{folder}': train the part 'vae' first.")
    device = accelerator.device
    coder = AutoencoderKL.from_pretrained(folder).to(device, torch.float32).eval().requires_grad_(False)
    tokenizer = build_tokenizer()
    net = load(out, tokenizer, device)
    for part in net.parts.values():
        part.train()
    average = [p.detach().clone() for p in net.parameters()]
    record = Record.load(out / "training", "unet")
    plan = scheduler()
    alphas = plan.alphas_cumprod.to(device).sqrt()
    ring: deque[Encoded] = deque(maxlen=2 * settings.reuse)

    def step(number: int) -> dict[str, Tensor]:
        if number % settings.reuse == 0 or not ring:
            seed = TRAIN + settings.seed + accelerator.process_index * 101
            task = draw_task(seed, number, settings.batch, device, files=settings.files)
            ring.append(encode(coder, task, settings))
        source = torch.Generator().manual_seed(number * 31 + settings.seed + accelerator.process_index)
        return {"loss": loss_of(net, tokenizer, ring[number % len(ring)], alphas, source, settings)}

    @torch.no_grad()
    def follow() -> None:
        keep = min(settings.ema, (1 + record.samples / settings.batch) / (10 + record.samples / settings.batch))
        torch._foreach_lerp_(average, [p.detach() for p in net.parameters()], 1 - keep)

    def evaluate() -> Mapping[str, float]:
        with averaged(net, average):
            return measure(net, coder, tokenizer, alphas, settings, device)

    def save() -> None:
        with averaged(net, average):
            save_half(out, **net.parts)
        for name in ("tokenizer", "tokenizer_2"):
            tokenizer.save_pretrained(out / name)
        plan.save_pretrained(out / "scheduler")

    look = {"evaluate": evaluate, "save": save, "after_step": follow, "every": 0.05}
    metrics = fit(record, step, net.parts.values(), settings, budget, accelerator, **look)
    curves(record, out / "training" / "unet.png")
    with averaged(net, average):
        unet_samples(net, coder, tokenizer, plan, out / "training" / "unet_samples.png")
    return metrics


def load(out: Path, tokenizer: Any, device: torch.device) -> Net:
    """Take up what `out` holds, or begin anew."""
    if (out / "unet" / "config.json").is_file():
        net = Net(**{name: kind.from_pretrained(out / name) for name, kind in KINDS.items()})
    else:
        net = build(tokenizer)
    for part in net.parts.values():
        part.to(device, torch.float32).eval()
    return net


@contextmanager
def averaged(net: Net, average: list[Tensor]) -> Iterator[None]:
    """Swap the moving average of the weights in, and out again; in full precision both ways."""
    kept = [p.detach().clone() for p in net.parameters()]
    torch._foreach_copy_([p.detach() for p in net.parameters()], average)
    try:
        yield
    finally:
        torch._foreach_copy_([p.detach() for p in net.parameters()], kept)


@torch.no_grad()
def measure(
    net: Net, vae: AutoencoderKL, tokenizer: Any, alphas: Tensor, settings: UnetSettings, device: torch.device
) -> dict[str, float]:
    """Return the validation loss on fixed scenes, noise and steps, by task."""
    found: dict[str, float] = {}
    for number, kind in enumerate(("fill", "edit", "restore", "polish")):
        data = encode(vae, draw_task(VALIDATE, 50 + number, 32, device, (kind,)), settings)
        source = torch.Generator().manual_seed(number)
        found[f"val_{kind}"] = float(loss_of(net, tokenizer, data, alphas, source, settings))
    found["val_loss"] = sum(found.values()) / len(found)
    return found


def unet_samples(net: Any, vae: AutoencoderKL, tokenizer: Any, plan: DDIMScheduler, path: Path) -> None:
    """Draw, for edits and for restorations: what the sampler gets, the masked input, what it makes, the truth."""
    pipe = StableDiffusionXLInpaintPipeline(
        vae, net.text_encoder, net.text_encoder_2, tokenizer, tokenizer, net.unet, plan, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    rows = []
    for kind, strength in (("edit", 0.95), ("restore", 0.5)):
        task = draw_task(VALIDATE, 77, 12, vae.device, (kind,))
        mask = task.mask[:, None]
        made = pipe(
            prompt=task.prompts,
            image=task.source,
            mask_image=mask.float(),
            strength=strength,
            num_inference_steps=round(10 / strength),
            guidance_scale=2.0,
            height=64,
            width=64,
            output_type="pt",
            generator=torch.Generator().manual_seed(0),
        ).images
        hidden = torch.where(mask, torch.tensor(0.5, device=vae.device), task.source)
        rows += [task.source, hidden, torch.where(mask, made, task.source), task.clean]
    save_grid(rows, path)
