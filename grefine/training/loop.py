"""One loop for every recipe: a budget, a learning rate that decays within it, metrics, curves, resumable saves."""

import json
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from grefine.errors import ConfigError
from grefine.io.atomic import write_text


@dataclass(frozen=True)
class Budget:
    """How long to train: by the clock, or by steps (which is exactly reproducible)."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None) or (self.minutes or self.steps or 0) <= 0:
            raise ConfigError("Give a training budget above zero, either in minutes or in steps.")

    @classmethod
    def rest(cls, minutes: float | None, steps: int | None, whole: int, done: int) -> "Budget":
        """Return the budget that is asked for, or what is left of a recipe's `whole` steps."""
        if minutes is not None or steps is not None:
            return cls(minutes, steps)
        if done >= whole:
            raise ConfigError(f"All {whole} steps of the recipe are done: give --steps or --minutes to go on.")
        return cls(steps=whole - done)

    def progress(self, step: int, seconds: float) -> float:
        return min(1.0, step / self.steps if self.steps else seconds / (60 * (self.minutes or 1)))


def schedule(progress: float, decay_from: float = 0.4, floor: float = 0.02) -> float:
    """Return the learning-rate factor: a short warm-up, constant, then linear to `floor` at the end."""
    warm = min(1.0, progress / 0.01 + 0.05)
    fall = 1.0 if progress < decay_from else 1 - (1 - floor) * (progress - decay_from) / (1 - decay_from)
    return warm * fall


@dataclass
class Record:
    """What a training run writes down, as JSON beside the weights; it grows over resumed runs."""

    path: Path | None
    """None for a run that keeps its record in memory."""
    name: str
    rows: list[dict[str, float]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    samples: int = 0
    cpu_seconds: float = 0.0

    @classmethod
    def load(cls, folder: Path, name: str) -> "Record":
        """Continue the record of `folder`, or begin one."""
        path = folder / f"{name}.json"
        if not path.is_file():
            return cls(path, name)
        return cls(path, **json.loads(path.read_text(encoding="utf-8")))

    def save(self) -> None:
        fields = {k: getattr(self, k) for k in ("name", "samples", "cpu_seconds", "runs", "rows")}
        if self.path is not None:
            write_text(self.path, json.dumps(fields, indent=1))

    def check(self, settings: Mapping[str, Any], what: Path, free: Collection[str] = ()) -> None:
        """Refuse other settings than the last run's, but for those in `free`."""
        now = json.loads(json.dumps(dict(settings)))
        for key, before in (self.runs[-1]["settings"] if self.runs else {}).items():
            if key not in free and now.get(key) != before:
                raise ConfigError(
                    f"'{what}' was trained with {key}={before}, now it is {now.get(key)}: give another --out, or the "
                    "old value."
                )


def train(
    step: Callable[[int], Mapping[str, torch.Tensor]],
    optimisers: list[torch.optim.Optimizer],
    budget: Budget,
    record: Record,
    *,
    settings: Mapping[str, Any],
    evaluate: Callable[[], Mapping[str, float]],
    save: Callable[[], None],
    batch: int,
    accelerator: Accelerator,
    after_step: Callable[[], None] | None = None,
    every: float = 0.1,
    clip: float = 1.0,
    decay_from: float = 0.4,
    rate: Callable[[int], float] | None = None,
    thin: bool = True,
) -> dict[str, float]:
    """Run `step` until the budget is spent and return the last evaluation.

    Args:
        step: gets the step number and returns losses by name; "loss" is the one that is minimised.
        evaluate: returns metrics by name on held-out scenes; called at every `every` share of the budget and at its
            end, and where `thin` is set less often when it would take more than a fifth of a short budget.
        save: writes the weights; called after each evaluation.
        after_step: called after each optimiser step, e.g. for a moving average of the weights.
        rate: learning-rate factor by step number, in place of the one that follows the budget.
    """
    from tqdm import tqdm

    peak = [[group["lr"] for group in o.param_groups] for o in optimisers]
    parameters = [p for o in optimisers for group in o.param_groups for p in group["params"]]
    began, cpu = time.monotonic(), time.process_time()
    record.runs.append({"settings": dict(settings), "minutes": budget.minutes, "steps": budget.steps})
    number, mark, running, metrics = 0, every, {}, {}
    bar = tqdm(total=100, desc=record.name, unit="%", disable=not accelerator.is_main_process, mininterval=1)
    while (progress := budget.progress(number, time.monotonic() - began)) < 1.0:
        for optimiser, rates in zip(optimisers, peak, strict=True):
            for group, top in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = top * (rate(number) if rate else schedule(progress, decay_from))
        losses = step(number)
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(parameters, clip)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if after_step:
            after_step()
        number += 1
        record.samples += batch * accelerator.num_processes
        for name, value in losses.items():
            running[name] = 0.98 * running.get(name, float(value.detach())) + 0.02 * float(value.detach())
        if not torch.isfinite(losses["loss"].detach()):
            raise ConfigError(f"Training '{record.name}' diverged at step {number}: lower its learning rate.")
        bar.update(int(100 * progress) - bar.n)
        bar.set_postfix({k: f"{v:.3f}" for k, v in running.items()})
        spent = time.monotonic() - began
        if (reached := budget.progress(number, spent)) >= min(mark, 1.0):
            record.cpu_seconds += time.process_time() - cpu
            cpu = time.process_time()
            metrics = dict(evaluate())
            row = {"step": number, "samples": record.samples, "cpu_seconds": round(record.cpu_seconds, 1)}
            record.rows.append(row | {k: round(v, 5) for k, v in (running | metrics).items()})
            if accelerator.is_main_process:
                save()
                record.save()
            bar.write(json.dumps(record.rows[-1]), file=sys.stderr)
            cost = reached * (time.monotonic() - began - spent) / spent
            mark = min(1.0, reached + (max(every, 5 * cost) if thin else every))
    bar.close()
    if not metrics:
        raise ConfigError(
            f"The budget for '{record.name}' ended after {number} steps, before its first evaluation: give it more."
        )
    return metrics


def curves(record: Record, path: Path) -> None:
    """Draw every recorded quantity against the samples seen, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = [n for n in dict.fromkeys(k for row in record.rows for k in row) if n not in ("step", "samples")]
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.2 * columns, 2.4 * lines))
    for axis, name in zip(getattr(axes, "flat", [axes]), names, strict=False):
        rows = [row for row in record.rows if name in row]
        axis.plot([row["samples"] / 1000 for row in rows], [row[name] for row in rows], marker=".")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("thousand samples", fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
