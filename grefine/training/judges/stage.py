"""What a stage of a recipe states and gives: data, optimiser, schedule, its network, loss, and how it is saved."""

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import open_clip
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from grefine.errors import ConfigError, WeightsMissing
from grefine.io.images import read_image
from grefine.models.reference import load_group
from grefine.training.datasets.rated import MOS, RatedImage, SplitPlan
from grefine.training.judges.pool import Grouping, Part, Sample


@dataclass(frozen=True)
class Optimiser:
    kind: Literal["adam", "adamw"] = "adamw"
    """adam adds the decay to the gradient (coupled L2), adamw shrinks the weights."""
    learning_rate: float = 1e-4
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """How the learning rate follows the steps, whatever the budget is."""

    kind: Literal["constant", "cosine-steps", "cosine-epochs", "warm-cosine"] = "constant"
    """cosine-steps, cosine-epochs: down to zero in `period` steps or epochs and up again in as many. warm-cosine: up
    in `warm` epochs, then half a cosine to zero at epoch `period`."""
    period: float = 50.0
    warm: float = 0.0


@dataclass(frozen=True)
class RatedRecipe:
    geometry: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network where it is not the published one."""
    start: dict[str, str] = field(default_factory=dict)
    """What its parts begin with: folders, or timm:NAME for weights that timm fetches; others begin at random."""
    split: SplitPlan = SplitPlan("random")
    watch: Literal["validation", "test"] = "validation"
    """Which pictures choose the best weights. Published code chooses on the test pictures, which flatters it."""
    validation: float = 0.1
    """Share of the training pictures that only watch."""
    keep: Literal["best", "last"] = "best"
    batch: int = 16
    epochs: int = 0
    iterations: int = 0
    """The budget where the command line gives none: one of the two."""
    passes: int = 1
    """How often an epoch sees every picture."""
    every: int = 0
    """Steps between two looks at the watched pictures; 0: once per epoch."""
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.passes < 1:
            raise ConfigError(f"batch is {self.batch} and passes {self.passes}; both must be at least one.")
        if bool(self.epochs) == bool(self.iterations):
            raise ConfigError("A recipe states its length either in epochs or in iterations.")
        if not 0 < self.validation < 1:
            raise ConfigError(f"validation is {self.validation}; it is a share above 0 and below 1.")


def rate_of(settings: Schedule, per_epoch: int) -> Callable[[int], float]:
    """Return the learning-rate factor as a function of the step, counted from 0."""
    if settings.kind == "cosine-steps":
        return lambda step: _wave(step / settings.period)
    if settings.kind == "cosine-epochs":
        return lambda step: _wave(step // per_epoch / settings.period)
    if settings.kind == "warm-cosine":
        warm, whole = settings.warm * per_epoch, settings.period * per_epoch
        return lambda step: step / warm if step < warm else _wave(min(1.0, (step - warm) / (whole - warm)))
    return lambda _: 1.0


def _wave(turns: float) -> float:
    """Fall from 1 to 0 as `turns` goes to 1 and rise again to 2, as a cosine without restarts does."""
    return (1 + math.cos(math.pi * turns)) / 2


class Stage:
    """One stage of one recipe."""

    name: str
    """Of the folder that it writes."""
    module: Any
    """Everything that is needed to go on training."""
    part: nn.Module | None = None
    """What of the module is kept, where the rest only helps to train it; without one the module saves itself."""
    about: Mapping[str, Any]
    """What is written beside the weights of a part."""
    columns: tuple[str, ...] = (MOS,)
    """Labels that are taught and measured."""
    grouping: Grouping = "together"
    """How its batches are put together."""

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        raise NotImplementedError

    def train(self, step: int) -> bool:
        """Put the network into training mode for a step; True when the optimiser has to forget what it remembers."""
        self.module.train()
        return False

    def loss(self, parts: Sequence[Part]) -> dict[str, Tensor]:
        """Return the losses of a step by name; "loss" is minimised."""
        raise NotImplementedError

    def rate(self, image: Image.Image, row: RatedImage) -> Tensor:
        """Return `(columns,)` for a picture as it is evaluated."""
        raise NotImplementedError

    def predict(self, rows: Sequence[RatedImage]) -> Tensor:
        rated = [self.rate(read_image(row.path).rgb, row) for row in rows]
        return torch.stack(rated).view(len(rows), len(self.columns))

    def save(self, folder: Path) -> None:
        if self.part is None:
            self.module.save_pretrained(folder)
        else:
            save_state(self.part, folder, self.about)

    def load(self, folder: Path) -> None:
        load_saved(self.module if self.part is None else self.part, folder)


def part_options(defaults: Mapping[str, Any], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the geometry of a part: what is given in place of the defaults."""
    foreign = set(given) - set(defaults)
    if foreign:
        raise ConfigError(f"{what} has no '{min(foreign)}': {', '.join(defaults)}.")
    return {**defaults, **given}


def begin_with(module: nn.Module, start: Mapping[str, str], part: str, frozen: bool = False) -> None:
    """Load what a recipe names for `part`: `timm:NAME`, `open_clip:MODEL/TAG` (or MODEL/FILE), or safetensors; a part
    that stays `frozen` begins at random only where `random` asks for that.
    """
    if not (named := named_start(start, part, frozen)):
        return
    if not named.startswith(("timm:", "open_clip:")):
        load_saved(module, Path(named), part)
        return
    library, _, name = named.partition(":")
    try:
        if library == "timm":
            given = timm.create_model(name, pretrained=True).state_dict()
        else:
            model, _, tag = name.partition("/")
            given = open_clip.create_model(model, pretrained=tag).visual.state_dict()
    except Exception as error:  # noqa: BLE001 - they raise whatever their hub or their reader meets
        first = (str(error).strip().splitlines() or [""])[0]
        raise WeightsMissing(
            f"{library} could not give the weights of '{name}' ({first}): be online once, or name a .safetensors file."
        ) from error
    own = module.state_dict()
    load_group(module, {key: value for key, value in given.items() if key in own}, f"'{named}'")


def named_start(start: Mapping[str, str], part: str, frozen: bool) -> str:
    """Return what a recipe names for a part; nothing where it begins at random."""
    named = start.get(part, "")
    if frozen and not named:
        raise ConfigError(
            f"'{part}' is frozen and would stay at random values: give --start {part}=WEIGHTS (docs/training.md), or "
            f"{part}=random to ask for that."
        )
    return "" if named == "random" else named


def load_saved(model: nn.Module, saved: Path, what: str = "") -> None:
    """Load a file of safetensors, or what lies in a folder, however many files it is in."""
    files = [saved] if saved.is_file() else sorted(saved.glob("*.safetensors"))
    if not files and what:
        raise WeightsMissing(
            f"The recipe lets '{what}' begin with '{saved}', which holds no .safetensors: train that stage first, or "
            f"remove `start: {what}` to begin at random."
        )
    load_group(model, {key: value for file in files for key, value in load_file(file).items()}, f"'{saved}'")


def save_state(module: nn.Module, folder: Path, about: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}, folder / "model.safetensors")
    (folder / "part.json").write_text(json.dumps(dict(about), indent=1), encoding="utf-8")
