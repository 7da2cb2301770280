"""What a stage is worth on rated pictures: correlations with intervals, predictions, leakage, and the card."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from grefine.evaluate.correlation import agreement, plcc, srcc
from grefine.io.atomic import write_atomic
from grefine.training.datasets.rated import RatedImages
from grefine.training.datasets.splits import Leakage
from grefine.training.judges.pool import Pool
from grefine.training.judges.recipe import RatedRecipe
from grefine.training.judges.stage import Stage
from grefine.training.loop import Record

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
