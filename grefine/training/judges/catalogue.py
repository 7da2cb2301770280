"""From the name of a judge and a configuration to a trained stage: split, loop, exact resume, what it is worth."""

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
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
from grefine.training.datasets.rated import RatedImages, leakage, leakage_sentences, split, watched
from grefine.training.judges.dimensions import DimensionStage, FusionStage, MDIQARecipe
from grefine.training.judges.five_level import FiveLevelRecipe, FiveLevelStage
from grefine.training.judges.lar import BranchStage, LARRecipe, MergedStage
from grefine.training.judges.moe import MainStage, MoERecipe, PriorStage
from grefine.training.judges.pool import Order, Pool, loaded
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
    sets, others = [read_data(given) for given in data], [read_data(given) for given in tests]
    names = [one.name for one in (*sets, *others)]
    if len(set(names)) < len(names):
        raise ConfigError(f"Two data sets are called '{max(names, key=names.count)}': give tables different names.")
    found = []
    for number in range(repeats):
        if repeats > 1:
            progress(f"split {number + 1} of {repeats}")
        own = replace(recipe, split=replace(recipe.split, repeat=recipe.split.repeat + number))
        folder = out / f"repeat-{number}" if repeats > 1 else out
        found.append(Run(stages[recipe.stage], own, sets, folder, cpu, progress).train(minutes, steps, others))
    if repeats == 1:
        return found[0]
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


class Run:
    """The training of one stage, begun or taken up again: what it trains on, what it has reached, how it is kept."""

    def __init__(
        self,
        build: Callable[[Any, Sequence[RatedImages]], Stage],
        recipe: RatedRecipe,
        sets: Sequence[RatedImages],
        out: Path,
        cpu: bool,
        progress: Callable[[str], None],
    ) -> None:
        self.recipe, self.sets, self.accelerator = recipe, sets, Accelerator(cpu=cpu)
        if self.accelerator.num_processes > 1:
            raise ConfigError(
                "Training on rated pictures runs in one process: start it without `accelerate launch -n`."
            )
        torch.manual_seed(recipe.seed)
        wholes = [split(data, recipe.split) for data in sets]
        self.leaks = [leakage(data, whole) for data, whole in zip(sets, wholes, strict=True)]
        told = [
            f"{data.name}: no orders of its rows are published; {recipe.split.train:.0%} at random train, as printed."
            for data in sets
            if recipe.split.kind == "folds" and not data.permutations
        ]
        told += [note for data in sets for note in data.notes]
        if recipe.watch == "test" and recipe.keep == "best":
            told.append("The weights that are kept are chosen on the test pictures, which flatters the numbers.")
        for line in told + [line for leak in self.leaks for line in leakage_sentences(leak)]:
            progress(line)
        held = None if recipe.watch == "test" else recipe.validation
        kind, seed = recipe.split.kind, recipe.seed
        self.sides = [watched(data, whole, kind, held, seed) for data, whole in zip(sets, wholes, strict=True)]
        self.stage = stage = build(recipe, sets)
        self.folder, self.state = out / stage.name, out / "training" / f"{stage.name}.pt"
        self.record = Record.load(out / "training", stage.name)
        self.settings = asdict(recipe) | {"data": [[data.name, len(data)] for data in sets]}
        self.record.check(self.settings, self.folder, free=("epochs", "iterations", "every"))
        stage.module.to(self.accelerator.device)
        pool = Pool(sets, stage.columns, [side.train for side in self.sides])
        self.watching = Pool(sets, stage.columns, [side.watch for side in self.sides])
        order = Order(pool, recipe.batch, recipe.seed, stage.grouping, recipe.passes)
        self.per_epoch, self.rate = order.per_epoch, rate_of(recipe.schedule, order.per_epoch)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser.kind]
        trained = [p for p in stage.module.parameters() if p.requires_grad]
        self.optimiser: torch.optim.Optimizer = kind(
            trained, lr=recipe.optimiser.learning_rate, weight_decay=recipe.optimiser.weight_decay
        )
        self.done, self.best, self.reached = 0, -math.inf, -math.inf
        if self.state.is_file():
            stored = torch.load(self.state, map_location=self.accelerator.device, weights_only=True)
            stage.module.load_state_dict(stored["module"])
            self.optimiser.load_state_dict(stored["optimiser"])
            for group in self.optimiser.param_groups:
                group["lr"] = self.optimiser.defaults["lr"]  # the stored one is of the step at which it was written
            self.done, self.best = stored["done"], stored["best"]
        self.batches = loaded(pool, order, stage.view, recipe.seed, self.done)

    def train(self, minutes: float | None, steps: int | None, others: Sequence[RatedImages]) -> dict[str, Any]:
        """Train for the given budget, or to the recipe's end, and return what the best or last weights are worth on
        the test pictures and on all of `others`.
        """
        recipe, stage = self.recipe, self.stage
        budget = Budget.rest(minutes, steps, recipe.iterations or recipe.epochs * self.per_epoch, self.done)
        with closing(self.batches):
            train(
                lambda _: self._step(),
                [self.optimiser],
                budget,
                self.record,
                settings=self.settings,
                evaluate=self._evaluate,
                save=self._save,
                batch=recipe.batch,
                accelerator=self.accelerator,
                every=min(1.0, (recipe.every or self.per_epoch) / budget.steps) if budget.steps else 0.05,
                clip=math.inf,
                rate=lambda _: self.rate(self.done),
            )
        stage.load(self.folder)
        tests = [(data, side.test) for data, side in zip(self.sets, self.sides, strict=True)]
        found = self._report([*tests, *((data, range(len(data))) for data in others)])
        curves(self.record, self.state.with_suffix(".png"))
        return found

    def _step(self) -> dict[str, torch.Tensor]:
        if self.stage.train(self.done):
            self.optimiser.state.clear()
        torch.manual_seed(hash((self.recipe.seed, self.done)) % 2**31)  # dropout, too, follows the step alone
        device = self.accelerator.device
        parts = [
            (batch, {name: view.to(device) for name, view in views.items()}, labels.to(device))
            for batch, views, labels in next(self.batches)
        ]
        self.done += 1
        return self.stage.loss(parts)

    def _evaluate(self) -> dict[str, float]:
        """Return correlations with the labels of the watched pictures, the mean over labels and sets."""
        labels = self.watching.labels
        self.stage.module.eval()
        with torch.no_grad():
            rated = self.stage.predict(self.watching.rows).float().cpu()
        sides = [
            (rated[own, column].numpy(), labels[own, column].numpy())
            for own in self.watching.by_set()
            for column in range(labels.shape[1])
        ]
        found = {name: sum(by(x, y) for x, y in sides) / len(sides) for name, by in (("srcc", srcc), ("plcc", plcc))}
        self.reached = found["srcc"] + found["plcc"] if math.isfinite(found["srcc"]) else -math.inf
        # A network that says the same of every picture orders nothing.
        return {name: value if math.isfinite(value) else 0.0 for name, value in found.items()}

    def _save(self) -> None:
        """Write the weights that are to be kept, and what a resumed run needs."""
        if self.recipe.keep == "last" or self.reached > self.best or not self.folder.is_dir():
            self.best = max(self.best, self.reached)
            self.stage.save(self.folder)
        self.state.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.state.with_suffix(".tmp")
        state = {"module": self.stage.module.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save(state | {"done": self.done, "best": self.best}, temporary)
        temporary.replace(self.state)

    def _report(self, tests: Sequence[tuple[RatedImages, Sequence[int]]]) -> dict[str, Any]:
        """Return every measure by data set and label on these rows; write them and all predictions."""
        stage = self.stage
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
        write_atomic(self.folder / "predictions.csv", table.getvalue().encode())
        stored = {"measured": found, "leakage": self.leaks, "recipe": asdict(self.recipe)}
        write_atomic(self.folder / "metrics.json", json.dumps(stored, indent=1).encode())
        return found


def lines_of(found: dict[str, Any]) -> list[str]:
    """Return measurements in words, one line for each data set and label."""
    lines = []
    for name, values in found.items():
        spans = {measure: " [{:.3f}, {:.3f}]".format(*span) for measure, span in values["intervals"].items()}
        told = [f"{m} {values[m]:.3f}{spans.get(m, '')}" for m in MEASURES if m in values]
        lines.append(f"{name}: {', '.join(told)}, n {values['n']}")
    return lines
