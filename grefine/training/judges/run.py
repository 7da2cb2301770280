"""Train one stage on rated pictures: split, leakage, loop, exact resume, and what it is worth on the test side."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from grefine.errors import ConfigError
from grefine.evaluate.correlation import agreement, plcc, srcc
from grefine.io.atomic import write_atomic
from grefine.training.datasets.rated import RatedImages
from grefine.training.datasets.splits import Leakage, Split, SplitPlan, leakage, prompt_key, split
from grefine.training.judges.pool import Loader, Order, Pool
from grefine.training.judges.stage import BUDGET, RatedRecipe, Stage, make_optimiser, rate_of
from grefine.training.loop import Budget, Record, curves, train

MEASURES = ("srcc", "plcc", "plcc_fitted", "krcc", "rmse")


def worth(stage: Stage, pool: Pool) -> dict[str, float]:
    """Return rank and linear correlation with the labels, the mean over columns and data sets."""
    stage.module.eval()
    with torch.no_grad():
        found = stage.predict(pool.rows).float().cpu()
    values: dict[str, list[float]] = {"srcc": [], "plcc": []}
    for source in sorted(set(pool.sources)):
        rows = [n for n, other in enumerate(pool.sources) if other == source]
        for column in range(pool.labels.shape[1]):
            x, y = found[rows, column].numpy(), pool.labels[rows, column].numpy()
            values["srcc"].append(srcc(x, y))
            values["plcc"].append(plcc(x, y))
    return {name: sum(v) / len(v) for name, v in values.items()}


def measured(stage: Stage, tests: Sequence[tuple[RatedImages, Sequence[int]]], folder: Path) -> dict[str, Any]:
    """Return every measure by data set and label on the test pictures, and write all predictions beside them."""
    stage.module.eval()
    found: dict[str, Any] = {}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["data", "image", "label", "opinion", "predicted"])
    for data, rows in tests:
        with torch.no_grad():
            predicted = stage.predict([data.rows[n] for n in rows]).double().cpu()
        for column, name in enumerate(stage.columns):
            opinions = [data.rows[n].scores[name] for n in rows]
            scores = predicted[:, column].tolist()
            result = agreement(scores, opinions)
            values = {m: value for m in MEASURES if math.isfinite(value := getattr(result, m))}
            found[f"{data.name}.{name}"] = (
                {"n": result.n} | values | {"intervals": {k: list(v) for k, v in result.intervals.items()}}
            )
            for n, opinion, score in zip(rows, opinions, scores, strict=True):
                writer.writerow([data.name, data.rows[n].path.name, name, repr(opinion), repr(score)])
    write_atomic(folder / "predictions.csv", table.getvalue().encode())
    return found


def lines_of(found: dict[str, Any]) -> list[str]:
    """Return measurements in words, one line for each data set and label."""
    lines = []
    for name, values in found.items():
        parts = []
        for measure in MEASURES:
            if measure in values:
                low_high = values["intervals"].get(measure)
                span = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
                parts.append(f"{measure} {values[measure]:.3f}{span}")
        lines.append(f"{name}: {', '.join(parts)}, n {values['n']}")
    return lines


def write_report(
    name: str, recipe: RatedRecipe, record: Record, found: dict[str, Any], leaks: Sequence[Leakage], folder: Path
) -> None:
    """Write `metrics.json` and the card beside the weights."""
    stored = {"measured": found, "leakage": [leak.record() for leak in leaks], "recipe": asdict(recipe)}
    write_atomic(folder / "metrics.json", json.dumps(stored, indent=1).encode())
    sentences = "\n".join(f"- {line}" for leak in leaks for line in leak.sentences())
    chosen = "the test pictures, which flatters these numbers" if recipe.watch == "test" else "pictures held out of it"
    kept = f"best on {chosen}" if recipe.keep == "best" else "last"
    card = f"""# {name}

Trained by grefine on rated pictures: {record.samples:,} views, {record.cpu_seconds / 60:.1f} CPU-minutes,
{len(record.runs)} run(s). The weights kept are the {kept}. Settings and curves: `../training/{name}.json`.

{sentences}

On the test pictures (95 % bootstrap intervals; `plcc_fitted` after the 5-parameter logistic):

{chr(10).join(f"- {line}" for line in lines_of(found))}

The pictures and opinions keep their own terms, which may limit what these weights may be used for.
"""
    write_atomic(folder / "README.md", card.encode())


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
    others: Sequence[RatedImages] = (),
    minutes: float | None = None,
    steps: int | None = None,
    cpu: bool = False,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Train a stage, or go on training what lies in `out`, and return what it is worth on the test pictures.

    `others` only measure, whole. `out` gets the stage's folder, `training/NAME.json` and `.png` (settings and curves),
    `training/NAME.pt` (what a resumed run needs), and in the stage's folder `metrics.json`, `predictions.csv` and the
    card.
    """
    accelerator = Accelerator(cpu=cpu)
    if accelerator.num_processes > 1:
        raise ConfigError("Training on rated pictures runs in one process: start it without `accelerate launch -n`.")
    names = [data.name for data in (*sets, *others)]
    if len(set(names)) < len(names):
        raise ConfigError(f"Two data sets are called '{max(names, key=names.count)}': give tables different names.")
    torch.manual_seed(recipe.seed)
    sides = [divide(data, recipe) for data in sets]
    leaks = [leakage(data, Split(s.train + s.watch, s.test)) for data, s in zip(sets, sides, strict=True)]
    if recipe.split.kind == "folds":
        for name in (data.name for data in sets if not data.permutations):
            progress(
                f"{name}: no orders of its rows are published; {recipe.split.train:.0%} at random train, as printed."
            )
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
    tests += [(data, tuple(range(len(data)))) for data in others]
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
