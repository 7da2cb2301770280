"""What a stage of a recipe gives to the run: a network, how pictures enter it, its loss, and how it is saved."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from grefine.errors import ConfigError, WeightsMissing
from grefine.training.datasets.rated import MOS, RatedImage
from grefine.training.judges.pool import Batch, Grouping, Sample


class Stage:
    """One stage of one recipe; what is here holds for stages whose `module` is a whole model that saves itself."""

    name: str
    """Of the folder that it writes."""
    module: Any
    """Everything that is needed to go on training."""
    columns: tuple[str, ...] = (MOS,)
    """Labels that are taught and measured."""
    grouping: Grouping = "together"
    """How its batches are put together."""

    def view(self, image: Image.Image, row: RatedImage, rng: random.Random) -> Sample:
        """Return one training view."""
        raise NotImplementedError

    def train(self, step: int) -> bool:
        """Put the network into training mode for a step; True when the optimiser has to forget what it remembers."""
        self.module.train()
        return False

    def loss(self, parts: Sequence[tuple[Batch, Sample, Tensor]]) -> dict[str, Tensor]:
        """Return the losses of a step by name; "loss" is minimised."""
        raise NotImplementedError

    def rate(self, row: RatedImage) -> Tensor:
        """Return `(columns,)` for a picture as it is evaluated."""
        raise NotImplementedError

    def predict(self, rows: Sequence[RatedImage]) -> Tensor:
        """Return `(N, columns)` for pictures as they are evaluated."""
        return torch.stack([self.rate(row) for row in rows]).view(len(rows), len(self.columns))

    def save(self, folder: Path) -> None:
        """Write what later stages and users load."""
        self.module.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        """Take what `save` wrote."""
        load_saved(self.module, folder)


class PartStage(Stage):
    """A stage that keeps one part of its module; the rest only helps to train it."""

    part: nn.Module
    about: Mapping[str, Any]
    """What is written beside the part's weights."""

    def save(self, folder: Path) -> None:
        """Write the part."""
        save_state(self.part, folder, self.about)

    def load(self, folder: Path) -> None:
        """Read the part."""
        load_saved(self.part, folder)


def part_options(defaults: Mapping[str, Any], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return the geometry of a part: what is given in place of the defaults."""
    foreign = set(given) - set(defaults)
    if foreign:
        raise ConfigError(f"{what} has no '{min(foreign)}': {', '.join(defaults)}.")
    return {**defaults, **given}


def begin_with(module: nn.Module, start: Mapping[str, str], part: str) -> None:
    """Load the weights that a recipe names for `part`: `timm:NAME`, or a folder or file of safetensors."""
    named = start.get(part, "")
    if not named:
        return
    if named.startswith("timm:"):
        load_state(module, _from_timm(named.removeprefix("timm:")), named, partial=True)
        return
    path = Path(named)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if not files:
        raise WeightsMissing(
            f"The recipe lets '{part}' begin with '{named}', which holds no .safetensors: train that stage first, or "
            f"remove `start: {part}` to begin at random."
        )
    load_state(module, _read(files), named)


def load_saved(model: nn.Module, folder: Path) -> None:
    """Load what was saved in a folder, however many files it is in."""
    load_state(model, _read(folder.glob("*.safetensors")), str(folder))


def _read(files: Iterable[Path]) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {key: value for file in files for key, value in load_file(file).items()}


def load_state(module: nn.Module, state: Mapping[str, Tensor], named: str, partial: bool = False) -> None:
    """Load a state dict whose every tensor must fit; a `partial` source may hold more than the module has."""
    from grefine.errors import WeightsCorrupt

    own = module.state_dict()
    given = {key: value.to(own[key].dtype) for key, value in state.items() if key in own}
    foreign = [] if partial else [key for key in state if key not in own]
    absent = [key for key in own if key not in state]
    wrong = [key for key, value in given.items() if value.shape != own[key].shape]
    for keys, what in ((absent, "lacks"), (foreign, "has the foreign"), (wrong, "has another shape of")):
        if keys:
            raise WeightsCorrupt(
                f"'{named}' {what} '{keys[0]}' ({len(keys)} such tensors): it is of another geometry."
            )
    module.load_state_dict(given)


def save_state(module: nn.Module, folder: Path, about: Mapping[str, Any]) -> None:
    """Write a part's weights and what it is."""
    import json

    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}, folder / "model.safetensors")
    (folder / "part.json").write_text(json.dumps(dict(about), indent=1), encoding="utf-8")


@torch.no_grad()
def freeze(module: nn.Module, frozen: bool = True) -> None:
    """Take a module out of training, or put it back."""
    module.requires_grad_(not frozen)


def _from_timm(name: str) -> dict[str, Tensor]:
    import timm

    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise WeightsMissing(
            f"timm could not give the weights of '{name}' ({first}): be online once, or name a .safetensors file."
        ) from error
