"""From the name of a judge and a configuration to a trained stage, once or over several splits."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from grefine.config import assignments, changed, changes_of, load_config
from grefine.errors import ConfigError, nearest
from grefine.io.atomic import write_atomic
from grefine.resources import config_file
from grefine.training.datasets.published import read_data
from grefine.training.judges.dimensions import DimensionStage, FusionStage, MDIQARecipe
from grefine.training.judges.five_level import FiveLevelRecipe, FiveLevelStage
from grefine.training.judges.lar import BranchStage, LARRecipe, MergedStage
from grefine.training.judges.moe import MainStage, MoERecipe, PriorStage
from grefine.training.judges.run import MEASURES, Build, Progress, train_stage
from grefine.training.judges.stage import RatedRecipe

JUDGES: dict[str, tuple[type[RatedRecipe], dict[str, Build]]] = {
    "moe-agiqa": (MoERecipe, {"prior": PriorStage, "main": MainStage}),
    "mdiqa": (MDIQARecipe, {"technical": DimensionStage, "aesthetic": DimensionStage, "fusion": FusionStage}),
    "lar-iqa": (LARRecipe, {"authentic": BranchStage, "synthetic": BranchStage, "merged": MergedStage}),
    "five-level": (FiveLevelRecipe, {"judge": FiveLevelStage}),
}
"""What each judge's recipes are written as, and its stages by name."""


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
    progress: Progress = lambda _: None,
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
    once: Callable[..., dict[str, Any]] = partial(
        train_stage, stages[recipe.stage], sets=sets, others=others, minutes=minutes, steps=steps, cpu=cpu,
        progress=progress,
    )  # fmt: skip
    if repeats == 1:
        return once(recipe, out=out)
    found = []
    for number in range(repeats):
        progress(f"split {number + 1} of {repeats}")
        divided = replace(recipe, split=replace(recipe.split, repeat=recipe.split.repeat + number))
        found.append(once(divided, out=out / f"repeat-{number}"))
    summary = summarise(found)
    write_atomic(out / "repeats.json", json.dumps({"splits": found, "summary": summary}, indent=1).encode())
    return summary


def summarise(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return median, mean and deviation of every measure over splits."""
    summary: dict[str, Any] = {}
    for name, first in found[0].items():
        summary[name] = {"n": first["n"], "intervals": {}}
        for measure in MEASURES:
            values = [one[name][measure] for one in found if measure in one[name]]
            if len(values) == len(found):
                summary[name][measure] = statistics.median(values)
                summary[name][f"{measure}_mean"] = statistics.mean(values)
                summary[name][f"{measure}_deviation"] = statistics.stdev(values)
    return summary
