"""Train the benchmark's judges, apart from every pipeline: other seeds, architecture and defects (smears included)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from grefine.io.atomic import write_text
from grefine.training.loop import Budget, Record
from lab.bench_judges.networks import (
    CELL,
    NONE,
    SOUND,
    AttributeJudge,
    Judges,
    Referee,
    check_judges,
    crop,
    load_weights,
)
from lab.fit import fit
from lab.world.defects import damage
from lab.world.render import Rendered, render
from lab.world.scene import Scenes, sample
from lab.world.stream import JUDGES, source
from lab.world.vocabulary import DEFECT_KINDS

PARTS: dict[str, type[nn.Module]] = {"attributes": AttributeJudge, "referee": Referee}
"""The judges by the name of their file."""
_CARD = Path(__file__).parent / "card.md"


@dataclass(frozen=True)
class JudgeSettings:
    """What makes the shipped judges (`python -m lab train judges`)."""

    scenes: int = 16
    """Per step."""
    shares: Mapping[str, float] = field(default_factory=lambda: {"attributes": 0.4, "referee": 0.6})
    """How the minutes are divided."""
    muon_lr: float = 0.02
    adam_lr: float = 0.002
    seed: int = 0


def train_judges(out: Path, minutes: float, seed: int) -> dict[str, float]:
    """Train the judges, or go on training those in `out`; write them with a card and return how well they judge."""
    accelerator, settings = Accelerator(), JudgeSettings(seed=seed)
    torch.manual_seed(seed)
    made = []
    for name, kind in PARTS.items():
        budget, model = Budget(minutes=minutes * settings.shares[name]), kind()
        if (out / f"{name}.safetensors").is_file():
            load_weights(model, out / f"{name}.safetensors")
        _train_one(name, model.to(accelerator.device), out, budget, settings, accelerator)
        state = {k: v.half() if v.is_floating_point() else v for k, v in model.cpu().state_dict().items()}
        save_file({k: v.contiguous() for k, v in state.items()}, out / f"{name}.safetensors")
        record, size = Record.load(out / "training", name), sum(p.numel() for p in model.parameters()) / 1e6
        took = f"{record.samples:,} pictures in {record.cpu_seconds:.0f} CPU-seconds"
        made.append(f"- `{name}.safetensors`: {size:.2f} M parameters, float16; {took}")
    found = check_judges(Judges.load(out))
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in found.items())
    write_text(
        out / "README.md", _CARD.read_text(encoding="utf-8").format(parts="\n".join(made), seed=seed, rows=rows)
    )
    return found


def _train_one(
    name: str, model: nn.Module, out: Path, budget: Budget, settings: JudgeSettings, accelerator: Accelerator
) -> None:
    record = Record.load(out / "training", name)
    losses = attribute_losses if name == "attributes" else referee_losses
    device = accelerator.device

    def step(number: int) -> dict[str, Tensor]:
        model.train()
        return losses(model, *draw(settings.seed, number, settings.scenes, device))

    def evaluate() -> dict[str, float]:
        model.eval()
        with torch.no_grad():
            held_out = [losses(model, *draw(settings.seed, -1 - i, 48, device)) for i in range(3)]
        return {f"held_out_{k}": float(sum(float(row[k]) for row in held_out) / 3) for k in held_out[0]}

    options = {"evaluate": evaluate, "save": lambda: None, "batch": 2 * settings.scenes, "every": 0.25}
    fit(record, step, [model], settings, budget, accelerator, **options)


@dataclass(frozen=True)
class Truth:
    """What is to be learnt of one batch, clean pictures first, then damaged ones."""

    scenes: Scenes
    """2B."""
    rendered: Rendered
    """B, of the clean pictures."""
    defects: Tensor
    """(2B, S, S) long: kind of defect, or `SOUND`."""


def draw(
    seed: int, number: int, count: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Truth, torch.Generator]:
    """Return the pictures (2B, 3, S, S) of a batch, half a little softer, grainier or darker, and their truth."""
    generator = source(JUDGES + seed, number)
    quarter = count // 4
    scenes = Scenes.cat([sample(count - quarter, generator), sample(quarter, generator, "held_out")])
    rendered = render(scenes, 64, device)
    spoilt = damage(rendered.images, rendered.objects.any(1), generator, DEFECT_KINDS)
    kinds = torch.where(spoilt.masks, spoilt.kinds[:, None, None], SOUND)
    images = torch.cat([rendered.images, spoilt.images])
    amount = torch.rand(len(images), 3, 1, 1, 1, generator=generator).to(images.device)
    soft = F.avg_pool2d(F.pad(images, [1] * 4, mode="replicate"), 3, 1)
    changed = images + (soft - images) * 0.55 * amount[:, 0]
    grain = torch.randn(images.shape, generator=generator).to(images.device)
    changed = changed * (0.93 + 0.14 * amount[:, 2]) + 0.02 * amount[:, 1] * grain
    chosen = (torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5).to(images.device)
    images = torch.where(chosen, changed.clamp(0, 1), images)
    defects = torch.cat([torch.full_like(kinds, SOUND), kinds])
    return images, Truth(Scenes.cat([scenes, scenes]), rendered, defects), generator


def attribute_losses(
    model: AttributeJudge, images: Tensor, truth: Truth, generator: torch.Generator
) -> dict[str, Tensor]:
    """Read every object at about its place, and as many places without one."""
    scenes = truth.scenes
    row, slot = scenes.present.nonzero(as_tuple=True)
    x, y, radius = (t[row, slot] for t in (scenes.x, scenes.y, scenes.radius))
    jitter = torch.rand(len(row), 3, generator=generator) - 0.5
    crops = crop(
        images[row.to(images.device)],
        *(t.to(images.device) for t in (x + 0.16 * jitter[:, 0] * radius, y + 0.16 * jitter[:, 1] * radius)),
        (radius * (1 + 0.2 * jitter[:, 2])).to(images.device),
    )
    # As many places that hold next to nothing of any object.
    place = torch.rand(len(images), 3, generator=generator).to(images.device)
    where = place[:, 0], place[:, 1], 0.12 + 0.15 * place[:, 2]
    things = truth.rendered.objects.any(1, keepdim=True).float().repeat(2, 1, 1, 1)
    empty = crop(images, *where)[crop(things, *where).mean((1, 2, 3)) < 0.04]
    colour, noun, texture = model(torch.cat([crops, empty]))
    count = len(row)
    asked = (scenes.colour, scenes.noun, scenes.texture)
    colours, nouns, textures = (t[row, slot].to(images.device) for t in asked)
    nothing = torch.full((len(empty),), NONE, device=images.device)
    parts = {
        "colour": F.cross_entropy(colour[:count], colours),
        "noun": F.cross_entropy(noun, torch.cat([nouns, nothing])),
        "texture": F.cross_entropy(texture[:count], textures),
    }
    return {"loss": sum(parts.values(), torch.zeros((), device=images.device))} | parts


def referee_losses(model: Referee, images: Tensor, truth: Truth, generator: torch.Generator) -> dict[str, Tensor]:
    """Name the defect and the thing, its colour and its texture in every cell that is clearly one or the other."""
    seen = model(images)
    scenes, objects = truth.scenes, truth.rendered.objects.repeat(2, 1, 1, 1)
    damaged = F.avg_pool2d((truth.defects != SOUND).float()[:, None], CELL)[:, 0]
    kind = truth.defects.flatten(1).amin(1)[:, None, None].expand_as(damaged)
    defects = torch.where(damaged >= 0.5, kind, SOUND).masked_fill((damaged > 0) & (damaged < 0.5), -100)
    cover = F.avg_pool2d(objects.float(), CELL)
    share, owner = cover.max(1)
    solid, free = share > 0.6, cover.sum(1) < 0.1

    def of_owner(values: Tensor) -> Tensor:
        return values.to(images.device).gather(1, owner.flatten(1)).view_as(owner).masked_fill(~solid, -100)

    nouns = of_owner(scenes.noun).masked_fill(free, NONE)
    balance = torch.ones(NONE + 1, device=images.device)
    balance[NONE] = 0.3
    parts = {
        "defect": F.cross_entropy(seen.defect, defects),
        "noun": F.cross_entropy(seen.noun, nouns, weight=balance),
        "colour": F.cross_entropy(seen.colour, of_owner(scenes.colour)),
        "texture": F.cross_entropy(seen.texture, of_owner(scenes.texture)),
    }
    return {"loss": 2 * parts["defect"] + parts["noun"] + parts["colour"] + parts["texture"]} | parts
