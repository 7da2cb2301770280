"""Train one stage on rated pictures: split, leakage, loop, exact resume, and what it is worth on the test side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from grefine.errors import ConfigError
from grefine.training.datasets.rated import RatedImages
from grefine.training.datasets.splits import Split, SplitPlan, leakage, prompt_key, split
from grefine.training.judges.pool import Loader, Order, Pool
from grefine.training.judges.recipe import BUDGET, RatedRecipe, make_optimiser, rate_of
from grefine.training.judges.results import measured, worth, write_report
from grefine.training.judges.stage import Stage
from grefine.training.loop import Budget, Record, curves, train

Progress = Callable[[str], None]
Build = Callable[[Any, Sequence[RatedImages]], Stage]


@dataclass(frozen=True)
class Sides:
    """Rows of one set: what trains, what watches, what only tests."""

    train: tuple[int, ...]
    watch: tuple[int, ...]
    test: tuple[int, ...]


def train_stage(
    build: Build,
    recipe: RatedRecipe,
    sets: Sequence[RatedImages],
    out: Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    cpu: bool = False,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Train a stage, or go on training what lies in `out`, and return what it is worth on the test pictures.

    `out` gets the stage's folder, `training/NAME.json` and `.png` (settings and curves), `training/NAME.pt` (what a
    resumed run needs), and in the stage's folder `metrics.json`, `predictions.csv` and the card.
    """
    accelerator = Accelerator(cpu=cpu)
    if accelerator.num_processes > 1:
        raise ConfigError("Training on rated pictures runs in one process: start it without `accelerate launch -n`.")
    names = [data.name for data in sets]
    if len(set(names)) < len(names):
        raise ConfigError(f"Two data sets are called '{max(names, key=names.count)}': give tables different names.")
    torch.manual_seed(recipe.seed)
    sides = [divide(data, recipe) for data in sets]
    leaks = [leakage(data, Split(s.train + s.watch, s.test)) for data, s in zip(sets, sides, strict=True)]
    for line in [note for data in sets for note in data.notes] + [line for leak in leaks for line in leak.sentences()]:
        progress(line)
    stage = build(recipe, sets)
    record = Record.load(out / "training", stage.name)
    settings = asdict(recipe) | {"data": [[data.name, len(data)] for data in sets]}
    record.check(settings, out / stage.name, BUDGET)
    stage.module.to(accelerator.device)
    pool = Pool(sets, stage.columns, [s.train for s in sides])
    order = Order(pool, recipe.batch, recipe.seed, stage.grouping, recipe.passes)
    watched = Pool(sets, stage.columns, [s.watch for s in sides])
    run = Run(stage, recipe, record, order, watched, out)
    run.resume(accelerator.device)
    budget = _budget(recipe, order.per_epoch, run.done, minutes, steps)
    loader = Loader(pool, order, stage.view, recipe.seed)
    try:
        train(
            lambda number: run.step(number, loader, accelerator.device),
            [run.optimiser],
            budget,
            record,
            settings=settings,
            evaluate=run.evaluate,
            save=run.save,
            batch=recipe.batch,
            accelerator=accelerator,
            every=_share(recipe, order.per_epoch, budget),
            clip=math.inf,
            rate=lambda number: run.rate(run.done + number),
        )
    finally:
        loader.close()
    stage.load(out / stage.name)
    tests = [(data, s.test) for data, s in zip(sets, sides, strict=True)]
    found = measured(stage, tests, out / stage.name)
    write_report(stage.name, recipe, record, found, leaks, out / stage.name)
    curves(record, out / "training" / f"{stage.name}.png")
    return found


class Run:
    """The state of one run: its optimiser, what it has reached, and how it is written and taken up again."""

    def __init__(
        self, stage: Stage, recipe: RatedRecipe, record: Record, order: Order, watched: Pool, out: Path
    ) -> None:
        self.stage, self.record, self.watched, self.out, self.keep = stage, record, watched, out, recipe.keep
        trained = [p for p in stage.module.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(recipe.optimiser, trained)
        self.rate = rate_of(recipe.schedule, order.per_epoch)
        self.done, self.best, self.reached, self.seen = 0, -math.inf, -math.inf, 0
        self.state = out / "training" / f"{stage.name}.pt"

    def step(self, number: int, loader: Loader, device: torch.device) -> dict[str, torch.Tensor]:
        """Return the losses of a step."""
        self.seen = self.done + number + 1
        if self.stage.train(self.done + number):
            self.optimiser.state.clear()
        torch.manual_seed(hash((loader.seed, self.done + number)) % 2**31)  # dropout, too, follows the step alone
        parts = [
            (part, {name: view.to(device) for name, view in views.items()}, labels.to(device))
            for part, views, labels in loader.step(self.done + number)
        ]
        return self.stage.loss(parts)

    def evaluate(self) -> dict[str, float]:
        """Measure the watched pictures."""
        found = worth(self.stage, self.watched)
        self.reached = found["srcc"] + found["plcc"] if math.isfinite(found["srcc"]) else -math.inf
        # A network that says the same of every picture orders nothing.
        return {name: value if math.isfinite(value) else 0.0 for name, value in found.items()}

    def save(self) -> None:
        """Write the weights that are to be kept, and what a resumed run needs."""
        if self.keep == "last" or self.reached > self.best or not (self.out / self.stage.name).is_dir():
            self.best = max(self.best, self.reached)
            self.stage.save(self.out / self.stage.name)
        self.state.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.state.with_suffix(".tmp")
        state = {"module": self.stage.module.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save(state | {"done": self.seen, "best": self.best}, temporary)
        temporary.replace(self.state)

    def resume(self, device: torch.device) -> None:
        """Take up the state of an earlier run, if there is one."""
        if not self.state.is_file():
            return
        stored = torch.load(self.state, map_location=device, weights_only=True)
        self.stage.module.load_state_dict(stored["module"])
        rates = [group["lr"] for group in self.optimiser.param_groups]
        self.optimiser.load_state_dict(stored["optimiser"])
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate
        self.done, self.best = stored["done"], stored["best"]


def divide(data: RatedImages, recipe: RatedRecipe) -> Sides:
    """Split a set into what trains, what watches and what tests; watched pictures share no prompt with training."""
    whole = split(data, recipe.split)
    if recipe.watch == "test":
        return Sides(whole.train, whole.test, whole.test)
    kind = recipe.split.kind if recipe.split.kind in ("random", "prompt", "content") else "random"
    inner = replace(data, rows=tuple(data.rows[n] for n in whole.train), permutations=())
    if kind == "prompt" and not any(prompt_key(row) for row in inner.rows):
        kind = "random"
    found = split(inner, SplitPlan(kind, 1 - recipe.validation, recipe.seed))
    taken = [tuple(whole.train[n] for n in side) for side in (found.train, found.test)]
    return Sides(taken[0], taken[1], whole.test)


def _budget(recipe: RatedRecipe, per_epoch: int, done: int, minutes: float | None, steps: int | None) -> Budget:
    if minutes is not None or steps is not None:
        return Budget(minutes=minutes, steps=steps)
    whole = recipe.iterations or recipe.epochs * per_epoch
    if done >= whole:
        raise ConfigError(f"All {whole} steps of the recipe are done: give --steps or --minutes to go on.")
    return Budget(steps=whole - done)


def _share(recipe: RatedRecipe, per_epoch: int, budget: Budget) -> float:
    if budget.steps is None:
        return 0.05
    return min(1.0, (recipe.every or per_epoch) / budget.steps)
