"""Train the five-level CLIP judge q_w on rated pictures: fidelity loss over pairs of one set, sets mixed per step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing
from grefine.io.images import read_image
from grefine.models.five_level import FiveLevelCLIP
from grefine.ranking.methods import images_in
from grefine.ranking.stability import spearman
from grefine.training.fidelity import Phi, rated_fidelity
from grefine.training.ranked_pool import read_opinions
from grefine.training.rectifier import RatedSource


@dataclass(frozen=True, slots=True)
class FiveLevelConfig:
    """The recipe; defaults are the paper's where it states them."""

    start: str = ""
    """State dict of OpenAI's CLIP (.safetensors, or a pickle that holds only tensors), or a saved judge's folder."""
    geometry: dict[str, int] = field(default_factory=dict)
    """Without `start`: the CLIP's sizes, trained from scratch."""
    rated: tuple[RatedSource, ...] = ()
    batch: int = 16
    """Pictures per set and step."""
    windows: int = 3
    """Random windows per picture and step."""
    epochs: int = 50
    steps_per_epoch: int = 200
    learning_rate: float = 5e-6
    weight_decay: float = 1e-3
    cosine_epochs: int = 5
    """Period of the cosine; beyond it the rate rises and falls again."""
    phi: Phi = "paper"
    held_out: float = 0.1
    """Share of every set that only measures; the epoch with its best mean SRCC is kept."""
    seed: int = 20200626
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class _Rated:
    name: str
    paths: list[Path]
    opinions: Tensor
    train: Tensor
    held: Tensor


def train_five_level(
    config: FiveLevelConfig, out: str | Path, progress: Callable[[str], None] = lambda _: None
) -> list[dict[str, float]]:
    """Train, write the judge and its history into `out`, and return the history.

    Raises:
        ConfigError: settings or data that cannot be used.
        WeightsMissing: nothing to start from.
    """
    if not config.rated:
        raise ConfigError("The judge learns from rated pictures: list at least one set under `rated`.")
    if min(config.batch, config.windows + 1, config.epochs + 1, config.steps_per_epoch + 1) < 2:
        raise ConfigError("batch must be at least 2; windows, epochs and steps_per_epoch at least 1.")
    sets = [_read(r, config) for r in config.rated]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = start_model(config).to(config.device)
        return _train(model, sets, config, Path(out), progress)


def start_model(config: FiveLevelConfig) -> FiveLevelCLIP:
    """Return the judge that training begins with."""
    if not config.start:
        if not config.geometry:
            raise WeightsMissing(
                "The judge starts from OpenAI's CLIP ViT-B/32: give its state dict as `start`, or a `geometry` to "
                "train a small one from scratch."
            )
        return FiveLevelCLIP(**config.geometry)  # type: ignore[arg-type]
    path = Path(config.start)
    if path.is_dir():
        return FiveLevelCLIP.from_pretrained(path)
    if not path.is_file():
        raise WeightsMissing(f"There is nothing at '{path}' to start from.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: dict[str, Any] = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - readers raise whatever they meet in a damaged file
        raise WeightsCorrupt(f"'{path}' cannot be read as a state dict of tensors.") from error
    return FiveLevelCLIP.from_reference({"clip": state})


def _train(
    model: FiveLevelCLIP, sets: list[_Rated], config: FiveLevelConfig, out: Path, progress: Callable[[str], None]
) -> list[dict[str, float]]:
    from grefine.io.atomic import write_atomic

    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.cosine_epochs)
    generator = torch.Generator().manual_seed(config.seed)
    history: list[dict[str, float]] = []
    best = -float("inf")
    for epoch in range(config.epochs):
        model.train()
        total = 0.0
        for _ in range(config.steps_per_epoch):
            loss = _step_loss(model, sets, config, generator)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        schedule.step()
        found = measure(model, sets)
        history.append({"epoch": epoch + 1.0, "loss": total / config.steps_per_epoch} | found)
        progress("  ".join(f"{k} {v:.4g}" for k, v in history[-1].items()))
        score = sum(found.values()) / len(found)
        if score > best or epoch == 0:
            best = score
            model.save_pretrained(out)
        record = {"config": dataclasses.asdict(config), "history": history}
        write_atomic(out / "training.json", (json.dumps(record, indent=1) + "\n").encode())
    return history


def _step_loss(
    model: FiveLevelCLIP, sets: list[_Rated], config: FiveLevelConfig, generator: torch.Generator
) -> Tensor:
    text = model.text_features()
    loss = torch.zeros((), device=text.device)
    for data in sets:
        rows = data.train[torch.randperm(len(data.train), generator=generator)[: config.batch]]
        windows = [model.read_windows(read_image(data.paths[i]).rgb, generator, config.windows) for i in rows.tolist()]
        scores = model(torch.stack(windows).to(text.device), text=text).quality
        loss = loss + rated_fidelity(scores, data.opinions[rows].to(text.device), config.phi)
    return loss


def measure(model: FiveLevelCLIP, sets: list[_Rated]) -> dict[str, float]:
    """Return the rank correlation with opinions on the held-out part of every set."""
    model.eval()
    found = {}
    for data in sets:
        rows = data.held if len(data.held) > 1 else data.train
        values = torch.cat([model.judge([read_image(data.paths[i]).rgb]).quality for i in rows.tolist()])
        srcc = spearman(values.cpu().numpy(), data.opinions[rows].numpy())
        found[f"{data.name}_srcc"] = srcc if srcc == srcc else 0.0
    return found


def _read(source: RatedSource, config: FiveLevelConfig) -> _Rated:
    files, opinions = images_in(source.images), read_opinions(source.opinions)
    missing = [n for n in opinions if Path(n).stem not in files]
    if missing:
        raise ConfigError(f"'{source.images}' lacks {len(missing)} rated images, first '{missing[0]}'.")
    if not 0 <= config.held_out < 1:
        raise ConfigError(f"held_out is {config.held_out}: it is a share from 0 to below 1.")
    order = torch.randperm(len(opinions), generator=torch.Generator().manual_seed(config.seed))
    kept = int(len(order) * config.held_out)
    if len(order) - kept < 2:
        raise ConfigError(f"The set '{source.name}' leaves fewer than two pictures to train on.")
    paths = [files[Path(n).stem] for n in opinions]
    return _Rated(source.name, paths, torch.tensor(list(opinions.values())), order[kept:], order[:kept])
