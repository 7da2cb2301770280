"""What the UNet makes of damaged scenes, in latents: the decoder learns to finish what it will be given."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from grefine.errors import ConfigError
from lab.tiny.stream import TRAIN, signed
from lab.tiny.tasks import draw_task
from lab.tiny.unet import UnetSettings, encode, load, predict, scheduler
from lab.world.tokenizer import build_tokenizer


@dataclass(frozen=True)
class Painted:
    """B repainted scenes."""

    latents: Tensor
    """(B, 4, S/4, S/4) as the decoder takes them."""
    wanted: Tensor
    """(B, 3, S, S) in -1..1, what they should become."""
    weight: Tensor
    """(B, S, S) what each pixel counts: outside the mask the refiner keeps the pixels of its input."""


class Painter:
    """The UNet of a pipeline folder at the first step of a mild run, which decides what is made of damage."""

    def __init__(self, folder: Path, vae: AutoencoderKL, seed: int, object_weight: float) -> None:
        if not (folder / "unet" / "config.json").is_file():
            raise ConfigError(f"'{folder}' holds no UNet whose pictures the decoder could learn to finish.")
        self.settings, self.tokenizer = UnetSettings(), build_tokenizer()
        self.net = load(folder, self.settings, len(self.tokenizer), int(self.tokenizer.eos_token_id))
        for part in self.net.parts.values():
            part.to(vae.device, torch.float32).eval()
        self.vae, self.seed, self.object_weight = vae, seed, object_weight
        self.alphas = scheduler().alphas_cumprod.to(vae.device).sqrt()

    @torch.no_grad()
    def __call__(self, number: int, count: int) -> Painted:
        """Mend batch `number`."""
        device, source = self.vae.device, torch.Generator().manual_seed(number)
        data = encode(self.vae, draw_task(TRAIN + self.seed, number, count, device, ("restore",)), self.settings)
        t = ((0.1 + 0.2 * torch.rand(count, generator=source)) * len(self.alphas)).long().to(device)
        a = self.alphas[t][:, None, None, None]
        s = (1 - a * a).sqrt()
        noisy = a * data.source + s * torch.randn(data.source.shape, generator=source).to(device)
        told = torch.ones(count, device=device)
        velocity = predict(self.net, self.tokenizer, data, noisy, t, told)
        weight = 1 + (self.object_weight - 1) * data.task.objects
        return Painted(
            (a * noisy - s * velocity) / self.vae.config["scaling_factor"],
            signed(data.task.clean),
            torch.where(data.task.mask, weight, torch.tensor(self.settings.outside_weight, device=device)),
        )
