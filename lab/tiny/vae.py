"""The autoencoder: 64-pixel images to 16x16 latents and back; and later its decoder alone, beside the UNet."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor

from grefine.errors import ConfigError
from grefine.training.loop import Budget, Record, curves
from lab.fit import begun, fit, geometry, save_half
from lab.tiny.tasks import draw_task
from lab.tiny.unet import UnetSettings, encode, load, predict, scheduler
from lab.world.pictures import save_grid
from lab.world.stream import TRAIN, VALIDATE, batch, signed
from lab.world.vocabulary import build_tokenizer


@dataclass(frozen=True)
class VaeSettings:
    """What makes the shipped autoencoder (lab/configs/tiny/vae.yaml, decoder.yaml)."""

    batch: int = 24
    muon_lr: float = 0.02
    adam_lr: float = 0.002
    object_weight: float = 3.0
    """Objects are a tenth of the pixels and most of the meaning."""
    gradient_weight: float = 1.0
    kl_weight: float = 1e-6
    latent_noise: float = 0.03
    """Share of the latent's own spread that is added before decoding, so that the decoder forgives the UNet."""
    damaged_share: float = 0.35
    """Share of inputs with a defect: the encoder must carry what is to be repaired."""
    painted_share: float = 0.0
    """Share of inputs that the UNet beside it has repainted; above 0 the decoder alone learns, for a UNet stands on
    the latents."""
    seed: int = 1


def reconstruction_loss(images: Tensor, output: Tensor, weight: Tensor, gradient_weight: float) -> Tensor:
    """L1 + MSE + L1 of the image gradients, all weighted per pixel; images (B, 3, S, S) in -1..1."""
    error = (output - images) * weight[:, None]
    dx = (output - images).diff(dim=3).abs() * weight[:, None, :, 1:]
    dy = (output - images).diff(dim=2).abs() * weight[:, None, 1:]
    return error.abs().mean() + error.square().mean() + gradient_weight * (dx.mean() + dy.mean())


class Painter:
    """The UNet of a pipeline folder at the first step of a mild run, which decides what is made of damage."""

    def __init__(self, folder: Path, vae: AutoencoderKL, seed: int, object_weight: float) -> None:
        if not (folder / "unet" / "config.json").is_file():
            raise ConfigError(f"'{folder}' holds no UNet whose pictures the decoder could learn to finish.")
        self.settings, self.tokenizer = UnetSettings(), build_tokenizer()
        self.net = load(folder, self.tokenizer, vae.device)
        self.vae, self.seed, self.object_weight = vae, seed, object_weight
        self.alphas = scheduler().alphas_cumprod.to(vae.device).sqrt()

    @torch.no_grad()
    def __call__(self, number: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mend batch `number`; return latents, what they should become (B, 3, S, S), and what each pixel counts."""
        device, source = self.vae.device, torch.Generator().manual_seed(number)
        data = encode(self.vae, draw_task(TRAIN + self.seed, number, count, device, ("restore",)), self.settings)
        t = ((0.1 + 0.2 * torch.rand(count, generator=source)) * len(self.alphas)).long().to(device)
        a = self.alphas[t][:, None, None, None]
        s = (1 - a * a).sqrt()
        noisy = a * data.source + s * torch.randn(data.source.shape, generator=source).to(device)
        told = torch.ones(count, device=device)
        velocity = predict(self.net, self.tokenizer, data, noisy, t, told)
        weight = 1 + (self.object_weight - 1) * data.task.objects
        # Outside the mask the refiner keeps the pixels of its input.
        weight = torch.where(data.task.mask, weight, torch.tensor(self.settings.outside_weight, device=device))
        return (a * noisy - s * velocity) / self.vae.config["scaling_factor"], signed(data.task.clean), weight


def train_vae(out: Path, settings: VaeSettings, budget: Budget, accelerator: Accelerator) -> dict[str, float]:
    """Train, or go on training, `out`/vae: whole, or, once a UNet stands on its latents, the decoder alone."""
    torch.manual_seed(settings.seed)
    vae = begun(AutoencoderKL, out / "vae", lambda: AutoencoderKL(**geometry("vae")))
    vae.to(accelerator.device, torch.float32).train()
    if settings.painted_share:
        vae.encoder.requires_grad_(False)
    name = "decoder" if settings.painted_share else "vae"
    record = Record.load(out / "training", name)
    count = round(settings.painted_share * settings.batch)
    painter = Painter(out, vae, settings.seed, settings.object_weight) if count else None

    def step(number: int) -> dict[str, Tensor]:
        plain = settings.batch - count
        data = batch(TRAIN + settings.seed, number, plain, device=accelerator.device)
        use = torch.rand(plain, 1, 1, 1, generator=torch.Generator().manual_seed(number))
        use = (use < settings.damaged_share).to(accelerator.device)
        images = signed(torch.where(use, data.damaged.images, data.clean.images))
        weight = 1 + (settings.object_weight - 1) * (data.clean.objects.any(1) | (data.damaged.masks & use[:, 0]))
        posterior = vae.encode(images).latent_dist
        latents = posterior.sample()
        spread = latents.detach().std()
        latents = latents + settings.latent_noise * spread * torch.randn_like(latents)
        if painter:
            pairs = zip((latents, images, weight), painter(number, count), strict=True)
            latents, images, weight = (torch.cat(pair) for pair in pairs)
        output = vae.decode(latents).sample
        reconstruction = reconstruction_loss(images, output, weight / weight.mean(), settings.gradient_weight)
        return {"loss": reconstruction + settings.kl_weight * posterior.kl().mean(), "l1": F.l1_loss(output, images)}

    def save() -> None:
        if not settings.painted_share:  # the latents of the world get unit spread
            images = batch(VALIDATE, 2, 64, device=accelerator.device).clean.images
            with torch.no_grad():
                spread = vae.encode(signed(images)).latent_dist.mode().std()
            vae.register_to_config(scaling_factor=float(1 / spread))
        save_half(out, vae=vae)

    look = {"evaluate": lambda: measure(vae, accelerator.device), "save": save}
    metrics = fit(record, step, [vae], settings, budget, accelerator, **look)
    curves(record, out / "training" / f"{name}.png")
    data = batch(VALIDATE, 1, 12, device=accelerator.device)
    with torch.no_grad():
        pairs = [data.clean.images, round_trip(vae, data.clean.images)]
        pairs += [data.damaged.images, round_trip(vae, data.damaged.images)]
    save_grid(pairs, out / "training" / f"{name}_samples.png")
    return metrics


@torch.no_grad()
def round_trip(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Encode and decode images (B, 3, S, S) in 0..1."""
    return (vae.decode(vae.encode(signed(images)).latent_dist.mode()).sample / 2 + 0.5).clamp(0, 1)


def measure(vae: AutoencoderKL, device: torch.device) -> dict[str, float]:
    """PSNR in decibels on clean validation scenes: whole, and on objects alone."""
    data = batch(VALIDATE, 0, 48, device=device)
    error = (round_trip(vae, data.clean.images) - data.clean.images).square().mean(1)
    inside = error[data.clean.objects.any(1)]
    return {"psnr": float(-10 * error.mean().log10()), "psnr_objects": float(-10 * inside.mean().log10())}
