"""A small restorer that MDIQA tunes towards sharpness or freedom from noise (`benchmarks/mdiqa_loss.py`).

It is trained on fidelity alone, then on fidelity and `MDIQALoss` under the weights that were asked for. All weightings
begin with the same first step and see the same pictures.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from grefine.models.mdiqa import MDIQA, MDIQALoss
from grefine.training.loop import Budget, Record, train
from lab.bench.intervals import share
from lab.judges.stream import distort
from lab.world.render import render
from lab.world.scene import sample
from lab.world.stream import generator

RESTORER_TRAIN, RESTORER_TEST = 8_000_009, 9_000_011
"""Scenes that no other part trains on or is measured with."""


@dataclass(frozen=True)
class RestorerSettings:
    """What a restorer is and what it is taught."""

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
    """Return a picture with a learnt correction, at first none; it works at half the resolution, for speed."""

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


def trained(
    settings: RestorerSettings,
    weights: Mapping[str, float] | None,
    budget: Budget,
    judge: MDIQA,
    begin: Restorer | None = None,
) -> Restorer:
    """Train a restorer, from another or anew, on fidelity and on the judge's dimensions where they have weights."""
    torch.manual_seed(settings.seed)
    model = copy.deepcopy(begin) if begin else Restorer(settings.width, settings.blocks)
    loss = MDIQALoss(judge, weights) if weights else None

    def step(number: int) -> dict[str, Tensor]:
        clean, spoilt = spoilt_pairs(RESTORER_TRAIN + settings.seed, number, settings.batch, settings)
        restored = model(spoilt)
        error = F.l1_loss(restored, clean)
        if loss is None:
            return {"loss": error}
        # A pull beyond 0..1 would leave the range that the judge knows.
        return {"loss": error + settings.loss_weight * loss(restored.clamp(0, 1))}

    train(
        step,
        [torch.optim.Adam(model.parameters(), settings.learning_rate)],
        budget,
        Record(None, "restorer"),
        settings=asdict(settings),
        evaluate=lambda: {k: float(v.mean()) for k, v in seen_from_outside(model, settings, 64).items()},
        save=lambda: None,
        batch=settings.batch,
        accelerator=Accelerator(cpu=True),
        every=1.0,
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
    restored = model(spoilt).clamp(0, 1)

    def along(first: Tensor, second: Tensor) -> Tensor:
        return sum((first.diff(dim=d) * second.diff(dim=d)).flatten(1).sum(1) for d in (3, 2))  # pyright: ignore

    edges = along(clean, restored) / along(clean, clean)
    flat = _laplacian(clean).abs().amax(1, keepdim=True) < 0.02
    fine = _laplacian(restored) * flat
    noise = (fine.pow(2).flatten(1).sum(1) / (3 * flat.flatten(1).sum(1)).clamp(min=1)).sqrt()
    return {"edges": edges, "noise": noise, "error": (restored - clean).abs().flatten(1).mean(1)}


def compare_weightings(
    weightings: Mapping[str, Mapping[str, float] | None],
    judge: MDIQA,
    base: Budget,
    tuned: Budget,
    settings: RestorerSettings = RestorerSettings(),
    count: int = 192,
) -> dict[str, Any]:
    """Train one restorer for each weighting (None: fidelity alone) from a common first step; measure from outside."""
    first = trained(settings, None, base, judge)
    models = {"base": first}
    models |= {name: trained(settings, w, tuned, judge, first) for name, w in weightings.items()}
    measures = {name: seen_from_outside(model, settings, count) for name, model in models.items()}
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


def _laplacian(images: Tensor) -> Tensor:
    kernel = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]).to(images) / 6
    weight = kernel.expand(3, 1, 3, 3)
    return F.conv2d(F.pad(images, [1] * 4, mode="replicate"), weight, groups=3)
