"""How every network of the lab is trained: Muon and AdamW, half precision on disk, going on where it was."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from torch import Tensor, nn

from grefine.config import load_config
from grefine.training.loop import Budget, Record, train
from lab import CONFIGS
from lab.muon import optimisers


@dataclass(frozen=True)
class Recipe:
    """How one network of tiny is made."""

    settings: type
    run: Callable[[Path, Any, Budget, Accelerator], dict[str, float]]
    share: float = 1.0
    """Of a budget that several networks share."""

    def open(self, file: str | Path, seed: int | None) -> Any:
        """Read the settings from a file, or by name from lab/configs/tiny, with another seed if one is given."""
        path = Path(file) if Path(file).is_file() else CONFIGS / "tiny" / f"{file}.yaml"
        return load_config(path, self.settings, {} if seed is None else {"seed": seed})


def geometry(name: str) -> dict[str, Any]:
    """Return what one of tiny's networks is made with (lab/configs/tiny/networks.yaml)."""
    return yaml.safe_load((CONFIGS / "tiny" / "networks.yaml").read_text(encoding="utf-8"))[name]


def begun(kind: Any, folder: Path, build: Callable[[], Any]) -> Any:
    """Load what lies in a folder in single precision, or build it."""
    if (folder / "config.json").is_file():
        return kind.from_pretrained(folder, torch_dtype=torch.float32)
    return build()


def save_half(out: Path, **parts: Any) -> None:
    """Write networks in half precision, each into the folder of its name; they themselves stay as they are."""
    for name, part in parts.items():
        part.half().save_pretrained(out / name)
        part.float()


def fit(
    record: Record,
    step: Callable[[int], dict[str, Tensor]],
    modules: Iterable[nn.Module],
    settings: Any,
    budget: Budget,
    accelerator: Accelerator,
    *,
    evaluate: Callable[[], Mapping[str, float]],
    save: Callable[[], None],
    batch: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train `modules` by `step`, which gets the number of the step counted over all runs; see `loop.train`."""
    batch = batch or settings.batch
    offset = record.samples // batch
    return train(
        lambda number: step(offset + number),
        optimisers(modules, settings.muon_lr, settings.adam_lr),
        budget,
        record,
        settings=asdict(settings),
        evaluate=evaluate,
        save=save,
        batch=batch,
        accelerator=accelerator,
        **options,
    )
