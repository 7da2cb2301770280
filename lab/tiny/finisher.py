"""The finisher: what the autoencoder loses of a mended place, learnt on what the finished UNet paints.

The UNet paints damaged and mildly polished scenes as the refiner asks it to, and the finisher sees windows of them
round their masks. Its loss is the mean error of pixels and edges, and the distance in the features of a convolutional
net that nobody trained: pixels alone would settle for soft edges.
"""

import random
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor, nn

from grefine.errors import ConfigError
from grefine.models.finisher import Finisher
from grefine.refine.denoise import choose_timesteps
from grefine.training.loop import Budget, Record
from lab.fit import begun, fit, save_half
from lab.tiny.tasks import Task, draw_task
from lab.tiny.unet import UnetSettings, encode, load, predict, scheduler
from lab.world.stream import TRAIN, VALIDATE
from lab.world.vocabulary import build_tokenizer

STRENGTHS = {"restore": 0.2, "polish": 0.1}
"""How strongly the refiner paints what it mends in stage 1 and in stage 2, in two steps."""


@dataclass(frozen=True)
class FinisherSettings:
    """What makes the shipped finisher (lab/configs/tiny/finisher.yaml)."""

    batch: int = 32
    window: int = 32
    """Side of the windows that are cut round the masks."""
    painted: int = 64
    """Pictures that are painted together."""
    kept: int = 220
    """Painted batches to draw windows from; all are painted before the first step."""
    reuse: int = 100
    """Steps after which another one takes the place of the oldest."""
    polish: float = 0.14
    """Share of the batches that are painted as in stage 2."""
    muon_lr: float = 0.006
    adam_lr: float = 0.0012
    pixel_weight: float = 0.3
    """Of the error of pixels and edges beside that of features."""
    ema: float = 0.998
    outside_weight: float = 0.02
    object_weight: float = 2.5
    files: float = 0.4
    seed: int = 4001


@dataclass(frozen=True)
class Painted:
    """B painted tasks; pictures `(B, 3, S, S)` in 0..1, masks `(B, 1, S, S)`."""

    source: Tensor
    painted: Tensor
    wanted: Tensor
    mask: Tensor
    objects: Tensor

    def windows(self, rows: Tensor, side: int, rng: random.Random) -> "Painted":
        """Cut a window of whole 8x8 cells round each row's mask, all mirrored or none."""
        shown = self.mask[rows, 0].float()
        size, axis = shown.shape[-1], torch.arange(float(shown.shape[-1]))
        weight = shown / shown.sum((1, 2), keepdim=True).clamp(min=1)
        corners = []
        for along in (weight.sum(1), weight.sum(2)):
            middle = (along * axis.to(along)).sum(1).tolist()
            places = [round((m - side / 2 + rng.uniform(-8, 8)) / 8) for m in middle]
            corners.append([8 * min(max(place, 0), (size - side) // 8) for place in places])
        mirrored = rng.random() < 0.5

        def cut(values: Tensor) -> Tensor:
            pairs = zip(values[rows], *corners, strict=True)
            found = torch.stack([one[:, y : y + side, x : x + side] for one, x, y in pairs])
            return (found.flip(-1) if mirrored else found).float()

        return Painted(*(cut(values) for values in vars(self).values()))


class Studio:
    """The finished UNet and autoencoder of a pipeline folder, painting as the refiner asks them to."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        for name in ("vae", "unet"):
            if not (folder / name / "config.json").is_file():
                raise ConfigError(f"The finisher learns on what '{folder}' paints: train the part '{name}' first.")
        self.settings, self.tokenizer = UnetSettings(), build_tokenizer()
        self.vae = AutoencoderKL.from_pretrained(folder / "vae").to(device, torch.float32).eval()
        self.net = load(folder, self.tokenizer, device)

    @torch.no_grad()
    def __call__(self, task: Task, strength: float, noise_seed: int) -> Painted:
        """Mend a task in sight, in two steps and without guidance."""
        device, count, plan = self.vae.device, len(task.prompts), scheduler()
        sizes = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]]).expand(count, -1)
        shown = replace(task, shown=torch.ones(count, dtype=torch.bool), time_ids=sizes)
        data = encode(self.vae, shown, self.settings)
        steps, _ = choose_timesteps(plan, 2, strength, device, "executed")
        noise = torch.randn(data.source.shape, generator=torch.Generator().manual_seed(noise_seed)).to(device)
        latents = plan.add_noise(data.source, noise, steps[:1].repeat(count))
        for t in steps:
            velocity = predict(self.net, self.tokenizer, data, latents, t.repeat(count), torch.ones(count).to(device))
            latents = plan.step(velocity, t, latents).prev_sample
        drawn = self.vae.decode(latents / self.vae.config["scaling_factor"]).sample / 2 + 0.5
        mask, objects = (where[:, None].float() for where in (task.mask, task.objects))
        return Painted(task.source, drawn.clamp(0, 1), task.clean, mask, objects)


class Untrained(nn.Module):
    """Features of a convolutional net as it was drawn, each brought to the same spread on scenes."""

    def __init__(self, scenes: Tensor, seed: int = 5) -> None:
        super().__init__()
        shapes, drawn = ((16, 3, 1), (32, 16, 2), (64, 32, 2)), torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 3, stride, 1, bias=False) for o, i, stride in shapes)
        self.levels = nn.ModuleList(nn.BatchNorm2d(o, affine=False, momentum=None) for o, _, _ in shapes)
        for layer in self.layers:
            layer.weight.data = torch.randn(layer.weight.shape, generator=drawn)
        with torch.no_grad():
            self(scenes)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of `(B, 3, S, S)` in 0..1 at full, half and quarter size."""
        found, x = [], images * 2 - 1
        for layer, level in zip(self.layers, self.levels, strict=True):
            x = F.relu(level(layer(x)))
            found.append(x)
        return found

    def distance(self, first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean distance over all sizes; a shift by a pixel counts little."""
        total = torch.zeros((), device=first.device)
        with torch.autocast(first.device.type, torch.bfloat16):
            both = self(torch.cat([first, second]))
        for layer in both:
            a, b = layer.float().chunk(2)
            apart = F.avg_pool2d(F.pad(a - b, [1] * 4, mode="replicate"), 3, 1).square().mean(1, keepdim=True)
            total = total + ((apart + 1e-5).sqrt() * F.adaptive_avg_pool2d(weight, layer.shape[-1])).mean()
        return total / len(both)


def loss_of(finished: Tensor, shown: Painted, untrained: Untrained, s: FinisherSettings) -> Tensor:
    """Return the weighted error of finished windows."""
    weight = shown.mask * (1 + (s.object_weight - 1) * shown.objects) + s.outside_weight
    weight, error = weight / weight.mean(), finished - shown.wanted
    edges = (error.diff(dim=3).abs() * weight[..., 1:]).mean() + (error.diff(dim=2).abs() * weight[:, :, 1:]).mean()
    pixels = ((error.abs() + error.square()) * weight).mean() + edges
    return s.pixel_weight * pixels + untrained.distance(finished, shown.wanted, weight)


def train_finisher(
    out: Path, settings: FinisherSettings, budget: Budget, accelerator: Accelerator
) -> dict[str, float]:
    """Train, or go on training, `out`/finisher on what the other parts in `out` paint."""
    torch.manual_seed(settings.seed)
    net = begun(Finisher, out / "finisher", Finisher).to(accelerator.device).train()
    studio, rng = Studio(out, accelerator.device), random.Random(settings.seed)
    record = Record.load(out / "training", "finisher")
    average = [p.detach().clone() for p in net.parameters()]

    def paint(number: int, kind: str, seed: int = TRAIN + settings.seed) -> Painted:
        task = draw_task(seed, number, settings.painted, accelerator.device, (kind,), settings.files)
        return studio(task, STRENGTHS[kind], number)

    def another(number: int) -> Painted:
        made = paint(number, "polish" if rng.random() < settings.polish else "restore")
        return Painted(*(values.half() for values in vars(made).values()))  # a gigabyte of them is kept

    checked = paint(90, "restore", VALIDATE)
    untrained = Untrained(checked.wanted)
    ring = deque(map(another, range(settings.kept)), settings.kept)

    def step(number: int) -> dict[str, Tensor]:
        if number % settings.reuse == settings.reuse - 1:
            ring.append(another(settings.kept + number))
        rows = torch.randperm(settings.painted)[: settings.batch]
        shown = rng.choice(ring).windows(rows, settings.window, rng)
        with torch.autocast(accelerator.device.type, torch.bfloat16):
            finished = net(shown.source, shown.painted, shown.mask)
        return {"loss": loss_of(finished.float(), shown, untrained, settings)}

    @torch.no_grad()
    def follow() -> None:
        steps = record.samples / settings.batch
        torch._foreach_lerp_(average, list(net.parameters()), 1 - min(settings.ema, (1 + steps) / (10 + steps)))

    def averaged() -> Finisher:
        copy = Finisher().to(accelerator.device).eval()
        torch._foreach_copy_([p.detach() for p in copy.parameters()], average)
        return copy

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        made = averaged()(checked.source, checked.painted, checked.mask)
        before, after = (float(loss_of(x, checked, untrained, settings)) for x in (checked.painted, made))
        return {"val_painted": before, "val_finished": after}

    look = {"evaluate": evaluate, "save": lambda: save_half(out, finisher=averaged()), "after_step": follow}
    return fit(record, step, [net], settings, budget, accelerator, **look)
