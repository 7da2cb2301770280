"""Judges on published sets, as Table III of SR-IQA has them, each on pictures that did not teach it.

    python benchmarks/rated_sets.py OUT/ours RUNS/qw/five_level --data koniq-10k:FOLDER --data kadid-10k:FOLDER

A judge is a folder of `grefine train rectifier` or of `grefine train five-level`. A set with a test part of its own is
measured on that part, any other whole. Left out is every picture that lies, byte for byte, in what the judge (or the
frozen judge below it) learnt from; a judge whose record of that is missing is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path

from grefine.errors import ConfigError, GRefineError
from grefine.evaluate.correlation import Agreement, agreement
from grefine.evaluate.tables import number
from grefine.ranking.frozen import JUDGE_FILE
from grefine.ranking.judges import calibrated_values
from grefine.training.datasets.published import read_data
from grefine.training.datasets.rated import RatedImages


def taught_by(judge: Path, where: dict[str, str]) -> list[RatedImages]:
    """Return the sets that a judge and the frozen one below it learnt from, without the test parts of their own.

    Args:
        judge: its folder.
        where: NAME:PATH by the name of a set, for the records that name a set alone.
    """
    source = judge / JUDGE_FILE
    try:
        if source.is_file():
            named = json.loads((judge / "training.json").read_text(encoding="utf-8"))["config"]["rated"]
            below = json.loads(source.read_text(encoding="utf-8"))["weights"]
            found = [read_data(given) for given in named] + (taught_by(Path(below), where) if below else [])
        else:
            record = json.loads((judge.parent / "training" / f"{judge.name}.json").read_text(encoding="utf-8"))
            names = [name for run in record["runs"] for name, _ in run["settings"]["data"]]
            found = [read_data(where[name]) for name in dict.fromkeys(names)]
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"What taught '{judge}' cannot be told ({type(error).__name__}: {error}): keep training.json (or "
            "../training/NAME.json) beside it, and name its sets with --taught NAME:FOLDER."
        ) from error
    return [data.only(lambda row: row.part != "test") for data in found]


def contents(data: RatedImages) -> list[str]:
    """Return what tells each picture's file from others."""
    return [hashlib.sha256(row.path.read_bytes()).hexdigest() for row in data.rows]


def measured(judge: Path, data: RatedImages, seen: set[str]) -> tuple[dict[str, Agreement], int]:
    """Return agreement by judge (a calibrated one brings its frozen one), and how many pictures were left out."""
    own = data.only(lambda row: row.part == "test") if any(row.part == "test" for row in data.rows) else data
    known = [key in seen for key in contents(own)]
    left = [row for row, was in zip(own.rows, known, strict=True) if not was]
    if not left:
        return {}, len(known)
    paths = {(data.name, str(n)): row.path for n, row in enumerate(left)}
    opinions = [row.scores["mos"] for row in left]
    found = {
        name: agreement([values[key] for key in paths], opinions, resamples=0)
        for name, values in calibrated_values([judge], paths, force=True).items()
    }
    return found, sum(known)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("judges", type=Path, nargs="+")
    parser.add_argument("--data", action="append", required=True, help="NAME:FOLDER, or a table; may be repeated")
    parser.add_argument("--taught", action="append", default=[], help="where a set lies that taught a judge")
    given = parser.parse_args()
    try:
        sets = {text: read_data(text) for text in given.data}
        where = {read_data(text).name: text for text in given.taught} | {d.name: text for text, d in sets.items()}
        print("| judge | set | n | taught it, left out | PLCC | PLCC fitted | SRCC |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
        for judge in given.judges:
            seen = {key for data in taught_by(judge, where) for key in contents(data)}
            for data in sets.values():
                found, out = measured(judge, data, seen)
                for name, a in found.items():
                    cells = " | ".join("" if math.isnan(v) else number(v) for v in (a.plcc, a.plcc_fitted, a.srcc))
                    print(f"| {name} | {data.name} | {a.n} | {out} | {cells} |")
                if not found:
                    print(f"| {judge.name} | {data.name} | 0 | {out} | | | |")
    except GRefineError as error:
        print(f"rated_sets: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
