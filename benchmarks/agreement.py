"""How well scores follow people: `python benchmarks/agreement.py SCORES.csv OPINIONS.csv [--opinion mos]`.

SCORES.csv is what `grefine score IMAGES --metrics NAMES -o SCORES.csv` writes; p and a come as the JSON lines of
`grefine map IMAGES -o DIR --json > maps.jsonl`. OPINIONS.csv has the columns image, the
opinion, and optionally dataset.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from grefine.errors import ConfigError, nearest
from grefine.evaluate.correlation import Agreement, agreement
from grefine.evaluate.tables import number

NOT_METRICS = frozenset(["path", "image", "name", "prompt", "note", "opinion", "mos", "dataset", "digest", "forced"])


def agreement_table(
    scores: str | Path, opinions: str | Path, *, opinion: str = "mos", resamples: int = 1000
) -> dict[tuple[str, str], Agreement]:
    """Return (metric, dataset) → agreement.

    Args:
        scores: CSV with a column `path` (or `image`) and one column per metric, as `grefine score -o` writes it, or
            the JSON lines that `grefine map --json` prints, whose p and a are judged.
        opinions: CSV with a column `image`, one of opinions, and optionally `dataset`.
        opinion: name of the opinions' column.
        resamples: of the intervals; 0 for none.

    Raises:
        ConfigError: a missing column, a cell that is no number, or no image in common.
    """
    known = _by_name(scores)
    rated = _by_name(opinions)
    columns = list(next(iter(rated.values())))
    if opinion not in columns:
        raise ConfigError(
            f"'{opinions}' has no column '{opinion}': it has {', '.join(columns)}{nearest(opinion, columns)}"
        )
    shared = [name for name in rated if name in known]
    if not shared:
        raise ConfigError(f"No image of '{opinions}' is scored in '{scores}': names are compared by their last part.")
    metrics = [name for name in next(iter(known.values())) if name not in NOT_METRICS]
    table: dict[tuple[str, str], Agreement] = {}
    for dataset in dict.fromkeys(rated[name].get("dataset") or "all" for name in shared):
        inside = [name for name in shared if (rated[name].get("dataset") or "all") == dataset]
        truth = [_number(rated[name][opinion], opinions, name) for name in inside]
        for metric in metrics:
            predicted = [_number(known[name].get(metric, ""), scores, name) for name in inside]
            table[metric, dataset] = agreement(predicted, truth, resamples=resamples)
    return table


def to_markdown(table: Mapping[tuple[str, str], Agreement]) -> str:
    """Return the table with 95 % intervals of the rank correlation."""
    lines = [
        "| metric | dataset | n | SRCC | 95 % | PLCC | PLCC fitted | KRCC | RMSE | MAE | RMSE fitted | MAE fitted |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (metric, dataset), found in table.items():
        low, high = found.intervals.get("srcc", (math.nan, math.nan))
        fitted = (found.rmse, found.mae) if found.fitted else (math.nan, math.nan)
        measures = (found.plcc, found.plcc_fitted, found.krcc, found.rmse_raw, found.mae_raw, *fitted)
        cells = " | ".join(number(value) for value in measures)
        span = f"{number(low, 3)} to {number(high, 3)}"
        lines.append(f"| {metric} | {dataset} | {found.n} | {number(found.srcc)} | {span} | {cells} |")
    return "\n".join(lines) + "\n"


def _by_name(path: str | Path) -> dict[str, dict[str, str]]:
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = _map_rows(file, path) if Path(path).suffix == ".jsonl" else list(csv.DictReader(file))
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    column = next((name for name in ("path", "image", "name") if rows and name in rows[0]), None)
    if column is None:
        raise ConfigError(f"'{path}' needs a heading with 'path' or 'image', and at least one row.")
    found: dict[str, dict[str, str]] = {}
    for line, row in enumerate(rows, start=2):
        name = Path(row[column]).name
        if name in found:
            raise ConfigError(f"'{path}' line {line} names '{name}' a second time: one row per image is needed.")
        found[name] = row
    return found


def _map_rows(lines: Iterable[str], path: str | Path) -> list[dict[str, str]]:
    """Return p and a of the lines that `grefine map --json` prints; an image without a prompt has no a."""
    rows = []
    for place, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)
            values = {"p": found["p"], "a": found["a"]}
            rows.append(
                {"image": str(found["image"])} | {k: "" if v is None else str(float(v)) for k, v in values.items()}
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"'{path}' line {place} is not what `grefine map --json` prints.") from error
    return rows


def _number(text: str | None, path: str | Path, name: str) -> float:
    if not (text or "").strip():
        return math.nan
    try:
        return float(text)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"'{path}' gives '{text}' for '{name}', which is no number.") from error


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scores", type=Path)
    parser.add_argument("opinions", type=Path)
    parser.add_argument("--opinion", default="mos", help="column of the opinions")
    parser.add_argument("--resamples", type=int, default=1000)
    given = parser.parse_args()
    print(to_markdown(agreement_table(given.scores, given.opinions, opinion=given.opinion, resamples=given.resamples)))


if __name__ == "__main__":
    main()
