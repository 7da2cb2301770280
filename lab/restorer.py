"""A small restorer that MDIQA tunes: the same network, pulled towards sharpness or towards freedom from noise.

It works on pixels, knows the toy world, and is trained in two steps: on fidelity alone, then on fidelity and
`MDIQALoss` under the weights that were asked for. All weightings begin with the same first step and see the same
pictures, so that what differs between them is what was asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from grefine.errors import ConfigError, nearest
from grefine.models.mdiqa import DIMENSIONS, MDIQA, MDIQALoss
from grefine.training.loop import Budget, Record, train
from lab.bench.intervals import share
from lab.judges.distortions import distort
from lab.tiny.stream import generator
from lab.world.render import render
from lab.world.scene import sample

RESTORER_TRAIN, RESTORER_TEST = 8_000_009, 9_000_011
"""Scenes that no other part trains on or is measured with."""
BASE = "base"


@dataclass(frozen=True)
class RestorerSettings:
    """What a restorer is and what it is taught."""

    weights: Mapping[str, float] | None = None
    """MDIQA's dimensions; None is the first step, fidelity alone."""
    loss_weight: float = 0.1
    """Of MDIQALoss beside the mean absolute error."""
    width: int = 40
    blocks: int = 5
    batch: int = 24
    learning_rate: float = 1e-3
    blur: tuple[float, float] = (0.2, 0.7)
    """Strength of the input's blur, least and most."""
    noise: tuple[float, float] = (0.15, 0.5)
    seed: int = 21


class Restorer(nn.Module):
    """Return a picture with a learnt correction; at first the correction is nothing.

    It works at half the resolution on four times the channels, which a CPU does in a quarter of the time.
    """

    def __init__(self, width: int = 40, blocks: int = 5) -> None:
        super().__init__()
        self.enter = nn.Conv2d(12, width, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(blocks))
        self.leave = nn.Conv2d(width, 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Restore `(B, 3, H, W)` in 0..1 of even height and width."""
        x = self.enter(F.pixel_unshuffle(images - 0.5, 2))
        for block in self.blocks:
            x = x + block(F.gelu(x))
        return images + F.pixel_shuffle(self.leave(F.gelu(x)), 2)


def spoilt_pairs(seed: int, number: int, count: int, settings: RestorerSettings) -> tuple[Tensor, Tensor]:
    source = generator(seed, number)
    clean = render(sample(count, source)).images
    spoilt = clean
    for name, (least, most) in (("sharpness", settings.blur), ("noisiness", settings.noise)):
        strength = least + (most - least) * torch.rand(count, generator=source)
        spoilt = distort(spoilt, name, strength, source)
    return clean, spoilt


def parse_weights(text: str) -> dict[str, float]:
    """Read `sharpness=1,noisiness=0.5`."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip()
        try:
            weights[name] = float(value) if equals else float("nan")
        except ValueError:
            weights[name] = float("nan")
        if not 0 <= weights[name] < float("inf"):
            raise ConfigError(f"Weights look like sharpness=1,noisiness=0.5, numbers from 0 on, not '{part.strip()}'.")
        if name not in DIMENSIONS:
            raise ConfigError(f"MDIQA has no dimension '{name}': {', '.join(DIMENSIONS)}{nearest(name, DIMENSIONS)}")
    if not any(weights.values()):
        raise ConfigError(f"All weights of '{text}' are zero: give at least one dimension a weight.")
    return weights


def train_restorer(
    out: Path,
    name: str,
    settings: RestorerSettings,
    budget: Budget,
    accelerator: Accelerator,
    judge: MDIQA | None = None,
    begin: Path | None = None,
) -> Restorer:
    """Train, or go on training, the restorer `out`/name, which begins as the one in `begin`, and return it."""
    if settings.weights and judge is None:
        raise ConfigError("A restorer with weights needs an MDIQA that judges it.")
    torch.manual_seed(settings.seed)
    folder = out / name
    record = Record.load(out / "training", name)
    record.check(asdict(settings), folder)
    model = Restorer(settings.width, settings.blocks)
    source = folder if (folder / "model.safetensors").is_file() else begin
    if source is not None:
        model.load_state_dict(load_file(source / "model.safetensors"))
    model.to(accelerator.device)
    loss = None
    if judge is not None and settings.weights:
        loss = MDIQALoss(judge.to(accelerator.device), settings.weights)
    offset = record.samples // settings.batch

    def step(number: int) -> dict[str, Tensor]:
        clean, spoilt = (
            x.to(accelerator.device)
            for x in spoilt_pairs(RESTORER_TRAIN + settings.seed, offset + number, settings.batch, settings)
        )
        restored = model(spoilt)
        error = F.l1_loss(restored, clean)
        if loss is None:
            return {"loss": error, "error": error}
        # A pull beyond 0..1 would leave the range that the judge knows.
        pull = loss(restored.clamp(0, 1))
        return {"loss": error + settings.loss_weight * pull, "error": error, "mdiqa": pull}

    def save() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        save_file(state, folder / "model.safetensors")

    train(
        step,
        [torch.optim.Adam(model.parameters(), settings.learning_rate)],
        budget,
        record,
        settings=asdict(settings),
        evaluate=lambda: {k: float(v.mean()) for k, v in seen_from_outside(model, settings, 64).items()},
        save=save,
        batch=settings.batch,
        accelerator=accelerator,
        every=0.25,
    )
    return model.eval()


@torch.no_grad()
def seen_from_outside(model: Callable[[Tensor], Tensor], settings: RestorerSettings, count: int) -> dict[str, Tensor]:
    """Measure restored test pictures by pixel formulas that no network had a part in; `(count,)` each.

    `edges`: how much of the true picture's gradient the restored one has, where 1 is as sharp as the truth; noise,
    which does not follow the truth, does not count. `noise`: deviation of the restored picture's fine detail
    (Laplacian) where the truth is flat. `error`: mean absolute difference from the truth.
    """
    clean, spoilt = spoilt_pairs(RESTORER_TEST, 0, count, settings)
    device = next(model.parameters()).device if isinstance(model, nn.Module) else spoilt.device
    restored = model(spoilt.to(device)).clamp(0, 1).cpu()
    true_x, true_y = _gradients(clean)
    got_x, got_y = _gradients(restored)
    followed = (true_x * got_x).flatten(1).sum(1) + (true_y * got_y).flatten(1).sum(1)
    edges = followed / ((true_x**2).flatten(1).sum(1) + (true_y**2).flatten(1).sum(1))
    flat = _laplacian(clean).abs().amax(1, keepdim=True) < 0.02
    fine = _laplacian(restored) * flat
    noise = (fine.pow(2).flatten(1).sum(1) / (3 * flat.flatten(1).sum(1)).clamp(min=1)).sqrt()
    return {"edges": edges, "noise": noise, "error": (restored - clean).abs().flatten(1).mean(1)}


def compare_weightings(
    out: Path,
    weightings: Mapping[str, Mapping[str, float] | None],
    judge: MDIQA,
    base: Budget,
    tuned: Budget,
    settings: RestorerSettings = RestorerSettings(),
    accelerator: Accelerator | None = None,
    count: int = 192,
) -> dict[str, Any]:
    """Train one restorer for each weighting (None: fidelity alone) from a common first step; measure from outside."""
    accelerator = accelerator or Accelerator(cpu=True)
    first = train_restorer(out, BASE, replace(settings, weights=None), base, accelerator)
    measures = {BASE: seen_from_outside(first, settings, count)}
    for name, weights in weightings.items():
        chosen = replace(settings, weights=dict(weights) if weights else None)
        model = train_restorer(out, name, chosen, tuned, accelerator, judge, out / BASE)
        measures[name] = seen_from_outside(model, settings, count)
    found: dict[str, Any] = {
        name: {key: round(float(v.mean()), 5) for key, v in values.items()} for name, values in measures.items()
    }
    found["pairs"] = {
        f"{a} against {b}": {
            "sharper": asdict(share(measures[a]["edges"] > measures[b]["edges"])),
            "noisier": asdict(share(measures[a]["noise"] > measures[b]["noise"])),
        }
        for a, b in combinations(weightings, 2)
    }
    return found


def _gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    return images[..., :, 1:] - images[..., :, :-1], images[..., 1:, :] - images[..., :-1, :]


def _laplacian(images: Tensor) -> Tensor:
    kernel = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]).to(images) / 6
    weight = kernel.expand(3, 1, 3, 3)
    return F.conv2d(F.pad(images, [1] * 4, mode="replicate"), weight, groups=3)
