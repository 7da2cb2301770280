"""From the name of a judge and a configuration to a trained stage: split, loop, exact resume, what it is worth."""

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from grefine.config import assignments, changed, changes_of, load_config
from grefine.errors import ConfigError, nearest
from grefine.evaluate.correlation import agreement, plcc, srcc
from grefine.io.atomic import write_atomic
from grefine.resources import config_file
from grefine.training.datasets.published import read_data
from grefine.training.datasets.rated import RatedImages
from grefine.training.datasets.splits import Split, SplitPlan, leakage, leakage_sentences, prompt_key, split
from grefine.training.judges.dimensions import DimensionStage, FusionStage, MDIQARecipe
from grefine.training.judges.five_level import FiveLevelRecipe, FiveLevelStage
from grefine.training.judges.lar import BranchStage, LARRecipe, MergedStage
from grefine.training.judges.moe import MainStage, MoERecipe, PriorStage
from grefine.training.judges.pool import Loader, Order, Pool
from grefine.training.judges.stage import RatedRecipe, Stage, rate_of
from grefine.training.loop import Budget, Record, curves, train

JUDGES: dict[str, tuple[type[RatedRecipe], dict[str, Callable[[Any, Sequence[RatedImages]], Stage]]]] = {
    "moe-agiqa": (MoERecipe, {"prior": PriorStage, "main": MainStage}),
    "mdiqa": (MDIQARecipe, {"technical": DimensionStage, "aesthetic": DimensionStage, "fusion": FusionStage}),
    "lar-iqa": (LARRecipe, {"authentic": BranchStage, "synthetic": BranchStage, "merged": MergedStage}),
    "five-level": (FiveLevelRecipe, {"judge": FiveLevelStage}),
}
"""What each judge's recipes are written as, and its stages by name."""
MEASURES = ("srcc", "plcc", "plcc_fitted", "krcc", "rmse", "mae", "rmse_raw", "mae_raw")


def train_on_data(
    judge: str,
    data: Sequence[str],
    config: str | Path,
    out: Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    start: Sequence[str] = (),
    changes: Sequence[str] = (),
    tests: Sequence[str] = (),
    repeats: int = 1,
    cpu: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train one stage of a judge on rated pictures; `tests` are sets on which it is measured whole, beside its own."""
    if judge not in JUDGES:
        raise ConfigError(f"No judge '{judge}': {', '.join(JUDGES)}{nearest(judge, JUDGES)}")
    kind, stages = JUDGES[judge]
    recipe: Any = load_config(config_file(f"train/{judge}", config), kind)
    recipe = changed(recipe, changes_of(changes) | {"start": recipe.start | assignments(start, "--start")})
    if seed is not None:
        recipe = replace(recipe, seed=seed, split=replace(recipe.split, seed=seed))
    if not data:
        raise ConfigError("Give at least one set of rated pictures: --data NAME:FOLDER or --data TABLE.csv.")
    if repeats < 1:
        raise ConfigError(f"--repeats is {repeats}; at least one split is trained.")
    sets, others = [read_data(given) for given in data], [read_data(given) for given in tests]
    if repeats == 1:
        return _train_stage(stages[recipe.stage], recipe, sets, others, out, minutes, steps, cpu, progress)
    found = []
    for number in range(repeats):
        progress(f"split {number + 1} of {repeats}")
        one = replace(recipe, split=replace(recipe.split, repeat=recipe.split.repeat + number))
        folder = out / f"repeat-{number}"
        found.append(_train_stage(stages[one.stage], one, sets, others, folder, minutes, steps, cpu, progress))
    summary: dict[str, Any] = {}
    for name, first in found[0].items():
        summary[name] = {"n": first["n"], "intervals": {}}
        for measure in MEASURES:
            values = [one[name][measure] for one in found if measure in one[name]]
            if len(values) == len(found):
                summary[name][measure] = statistics.median(values)
                summary[name][f"{measure}_mean"] = statistics.mean(values)
                summary[name][f"{measure}_deviation"] = statistics.stdev(values)
    write_atomic(out / "repeats.json", json.dumps({"splits": found, "summary": summary}, indent=1).encode())
    return summary


def _train_stage(
    build: Callable[[Any, Sequence[RatedImages]], Stage],
    recipe: RatedRecipe,
    sets: Sequence[RatedImages],
    others: Sequence[RatedImages],
    out: Path,
    minutes: float | None,
    steps: int | None,
    cpu: bool,
    progress: Callable[[str], None],
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
    wholes = [split(data, recipe.split) for data in sets]
    leaks = [leakage(data, whole) for data, whole in zip(sets, wholes, strict=True)]
    told = [
        f"{data.name}: no orders of its rows are published; {recipe.split.train:.0%} at random train, as printed."
        for data in sets
        if recipe.split.kind == "folds" and not data.permutations
    ]
    told += [note for data in sets for note in data.notes]
    for line in told + [line for leak in leaks for line in leakage_sentences(leak)]:
        progress(line)
    sides = [watched(data, whole, recipe) for data, whole in zip(sets, wholes, strict=True)]
    stage = build(recipe, sets)
    record = Record.load(out / "training", stage.name)
    settings = asdict(recipe) | {"data": [[data.name, len(data)] for data in sets]}
    record.check(settings, out / stage.name, free=("epochs", "iterations", "every"))
    stage.module.to(accelerator.device)
    pool = Pool(sets, stage.columns, [s.train for s in sides])
    order = Order(pool, recipe.batch, recipe.seed, stage.grouping, recipe.passes)
    watching = Pool(sets, stage.columns, [s.watch for s in sides])
    run = Run(stage, recipe, order, watching, out)
    run.resume(accelerator.device)
    budget = Budget.rest(minutes, steps, recipe.iterations or recipe.epochs * order.per_epoch, run.done)
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
            every=min(1.0, (recipe.every or order.per_epoch) / budget.steps) if budget.steps else 0.05,
            clip=math.inf,
            rate=lambda number: run.rate(run.done + number),
        )
    finally:
        loader.close()
    stage.load(out / stage.name)
    tests = [(data, s.test) for data, s in zip(sets, sides, strict=True)]
    tests += [(data, tuple(range(len(data)))) for data in others]
    found = report(stage, recipe, record, tests, leaks, out / stage.name)
    curves(record, out / "training" / f"{stage.name}.png")
    return found


class Run:
    """The state of one run: its optimiser, what it has reached, and how it is written and taken up again."""

    def __init__(self, stage: Stage, recipe: RatedRecipe, order: Order, watched: Pool, out: Path) -> None:
        self.stage, self.watched, self.out, self.keep = stage, watched, out, recipe.keep
        trained = [p for p in stage.module.parameters() if p.requires_grad]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser.kind]
        rate, decay = recipe.optimiser.learning_rate, recipe.optimiser.weight_decay
        self.optimiser: torch.optim.Optimizer = kind(trained, lr=rate, weight_decay=decay)
        self.rate = rate_of(recipe.schedule, order.per_epoch)
        self.done, self.best, self.reached, self.seen = 0, -math.inf, -math.inf, 0
        self.state = out / "training" / f"{stage.name}.pt"

    def step(self, number: int, loader: Loader, device: torch.device) -> dict[str, torch.Tensor]:
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
        """Return correlations with the labels of the watched pictures, the mean over labels and sets."""
        pool = self.watched
        self.stage.module.eval()
        with torch.no_grad():
            rated = self.stage.predict(pool.rows).float().cpu()
        rows = [[n for n, other in enumerate(pool.sources) if other == source] for source in sorted(set(pool.sources))]
        sides = [
            (rated[own, column].numpy(), pool.labels[own, column].numpy())
            for own in rows
            for column in range(pool.labels.shape[1])
        ]
        found = {name: sum(by(x, y) for x, y in sides) / len(sides) for name, by in (("srcc", srcc), ("plcc", plcc))}
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
        if not self.state.is_file():
            return
        stored = torch.load(self.state, map_location=device, weights_only=True)
        self.stage.module.load_state_dict(stored["module"])
        self.optimiser.load_state_dict(stored["optimiser"])
        for group in self.optimiser.param_groups:
            group["lr"] = self.optimiser.defaults["lr"]  # the stored one is of the step at which it was written
        self.done, self.best = stored["done"], stored["best"]


def watched(data: RatedImages, whole: Split, recipe: RatedRecipe) -> Split:
    """Take a share of the training side to watch, which shares no prompt with the rest; or the test side."""
    if recipe.watch == "test":
        return replace(whole, watch=whole.test)
    kind = recipe.split.kind if recipe.split.kind in ("random", "prompt", "content") else "random"
    inner = replace(data, rows=tuple(data.rows[n] for n in whole.train), permutations=())
    if kind == "prompt" and not any(prompt_key(row) for row in inner.rows):
        kind = "random"
    found = split(inner, SplitPlan(kind, 1 - recipe.validation, recipe.seed))
    train, watch = (tuple(whole.train[n] for n in side) for side in (found.train, found.test))
    return Split(train, whole.test, watch)


def lines_of(found: dict[str, Any]) -> list[str]:
    """Return measurements in words, one line for each data set and label."""
    lines = []
    for name, values in found.items():
        spans = {measure: " [{:.3f}, {:.3f}]".format(*span) for measure, span in values["intervals"].items()}
        told = [f"{m} {values[m]:.3f}{spans.get(m, '')}" for m in MEASURES if m in values]
        lines.append(f"{name}: {', '.join(told)}, n {values['n']}")
    return lines


def report(
    stage: Stage,
    recipe: RatedRecipe,
    record: Record,
    tests: Sequence[tuple[RatedImages, Sequence[int]]],
    leaks: Sequence[dict[str, Any]],
    folder: Path,
) -> dict[str, Any]:
    """Return every measure by data set and label on the test pictures; write them, all predictions, and the card."""
    stage.module.eval()
    found: dict[str, Any] = {}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["data", "image", "label", "opinion", "predicted"])
    for data, numbers in tests:
        rows = [data.rows[n] for n in numbers]
        with torch.no_grad():
            predicted = stage.predict(rows).double().cpu()
        for name, scores in zip(stage.columns, predicted.T.tolist(), strict=True):
            scale = data.scale(name)
            result = agreement([score * scale for score in scores], [row.scores[name] for row in rows])
            values = {m: value for m in MEASURES if math.isfinite(value := getattr(result, m))}
            intervals = {measure: list(span) for measure, span in result.intervals.items()}
            found[f"{data.name}.{name}"] = {"n": result.n} | values | {"intervals": intervals}
            for row, score in zip(rows, scores, strict=True):
                writer.writerow([data.name, row.path.name, name, repr(row.scores[name]), repr(score)])
    write_atomic(folder / "predictions.csv", table.getvalue().encode())
    stored = {"measured": found, "leakage": leaks, "recipe": asdict(recipe)}
    write_atomic(folder / "metrics.json", json.dumps(stored, indent=1).encode())
    sentences = "\n".join(f"- {line}" for leak in leaks for line in leakage_sentences(leak))
    chosen = "the test pictures, which flatters these numbers" if recipe.watch == "test" else "pictures held out of it"
    kept = f"best on {chosen}" if recipe.keep == "best" else "last"
    measures = "\n".join(f"- {line}" for line in lines_of(found))
    card = f"""# {stage.name}

Trained by grefine on rated pictures: {record.samples:,} views, {record.cpu_seconds / 60:.1f} CPU-minutes,
{len(record.runs)} run(s). The weights kept are the {kept}. Settings and curves: `../training/{stage.name}.json`.

{sentences}

On the test pictures, on the scale of their opinions (95 % bootstrap intervals; `plcc_fitted`, `rmse` and `mae` after
the 5-parameter logistic, which takes six pictures):

{measures}

The pictures and opinions keep their own terms, which may limit what these weights may be used for.
"""
    write_atomic(folder / "README.md", card.encode())
    return found
