"""How every network of the lab is trained: Muon and AdamW, half precision on disk, going on where it was."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from grefine.config import build, load_config
from grefine.training.loop import Budget, Record, train
from lab import CONFIGS, table


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

    def recorded(self, run: Mapping[str, Any]) -> Any:
        """Read the settings of a recorded run; those of the network itself stand in networks.yaml."""
        known = {field.name for field in fields(self.settings)}
        return build(self.settings, {name: value for name, value in run["settings"].items() if name in known})


def geometry(name: str) -> dict[str, Any]:
    """Return what one of tiny's networks is made with (lab/configs/tiny/networks.yaml)."""
    return table("configs/tiny/networks.yaml")[name]


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


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of (B, m, n) matrices near 1 by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (matrices.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal (Jordan et al. 2024), for weights of two or more dimensions."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Apply one update."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape[0], p[0].numel()].append(p)
            for (rows, columns), params in by_shape.items():
                gradients = torch.stack([p.grad.reshape(rows, columns) for p in params if p.grad is not None])
                buffers = [self.state[p].setdefault("momentum", torch.zeros(rows, columns).to(p)) for p in params]
                momenta = torch.stack(buffers).lerp_(gradients, 1 - group["momentum"])
                for buffer, new in zip(buffers, momenta, strict=True):
                    buffer.copy_(new)
                updates = orthogonalise(gradients.lerp(momenta, group["momentum"]))
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for p, update in zip(params, updates, strict=True):
                    p.add_(update.view_as(p), alpha=-scale)


def optimisers(modules: Iterable[nn.Module], muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Split all trainable parameters: matrices inside the nets to Muon; embeddings, norms and biases to AdamW."""
    matrices, others = [], []
    for module in modules:
        embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
        for name, p in module.named_parameters():
            if not p.requires_grad:
                continue
            ends = name.endswith(("positional_embedding", "class_embedding", "logit_scale", "ctx"))
            is_matrix = p.ndim >= 2 and id(p) not in embeddings and not ends
            (matrices if is_matrix else others).append(p)
    return [Muon(matrices, muon_lr), torch.optim.AdamW(others, adam_lr, betas=(0.9, 0.99), weight_decay=0.0)]
