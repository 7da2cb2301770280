"""Measure everything side by side and write one page: `python -m benchmarks.run [--only NAME] [--quick]`.

Results go to benchmarks/results/run_*.json and docs/benchmarks.md. With `--only` the other parts keep the results that
are there. `--device cuda` concerns the part `real`; all others compare CPU time on one thread.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import dataclasses
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.measure import BUSY, machine
from benchmarks.page import PAGE, write_page
from benchmarks.part import RESULTS, Part
from grefine.errors import ConfigError, GRefineError, nearest

PARTS = {
    "refine": "benchmarks.refine",
    "real": "benchmarks.real",
    "maps": "benchmarks.part_maps",
    "scorers": "benchmarks.part_scorers",
    "painters": "benchmarks.painters",
    "folder": "benchmarks.folder",
    "text": "benchmarks.part_text",
    "evaluate": "benchmarks.evaluate",
    "ranking": "benchmarks.part_ranking",
    "growth": "benchmarks.growth",
    "compiled": "benchmarks.compiled",
    "start": "benchmarks.start",
}
"""Every part by name: a module with `part(quick, device) -> Part`."""


def chosen_parts(only: str | None) -> list[str]:
    """Return the parts that `--only a,b` means; all of them without it."""
    names = [name.strip() for name in only.split(",")] if only else list(PARTS)
    for name in names:
        if name not in PARTS:
            raise ConfigError(f"There is no benchmark '{name}': choose {', '.join(PARTS)}{nearest(name, PARTS)}")
    return names


def check_device(device: str) -> None:
    """Refuse a device that is not there."""
    kind = device.split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"--device {device} is not known here: choose cpu or cuda.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--device cuda was asked for, but torch finds no CUDA device here: leave --device out, and the real sizes "
            "are measured at reduced width on the CPU."
        )


def run_part(name: str, quick: bool, device: str, results: Path) -> Part:
    """Measure one part, describe the machine, save it."""
    module = importlib.import_module(PARTS[name])
    about = machine(device)
    start = time.perf_counter()
    part: Part = module.part(quick=quick, device=device)
    about |= {"seconds": round(time.perf_counter() - start, 1), "quick": quick}
    part = dataclasses.replace(part, about=about)
    part.save(results)
    return part


def known_parts(results: Path) -> list[Part]:
    """Return the results of all parts that have been measured, in the page's order."""
    paths = [results / f"run_{name}.json" for name in PARTS]
    return [Part.load(path) for path in paths if path.is_file()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--only", help=f"parts, separated by commas: {', '.join(PARTS)}")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for the part 'real'")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller pictures, about five minutes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page that is written")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    failed: list[str] = []
    try:
        names = chosen_parts(given.only)
        check_device(given.device)
        if os.getloadavg()[0] > BUSY:
            print(f"The machine is busy (load {os.getloadavg()[0]:.1f}): wall times mean little.", file=sys.stderr)
        for name in names:
            start = time.perf_counter()
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                run_part(name, given.quick, given.device, given.results)
            except GRefineError:
                raise
            except Exception as error:  # noqa: BLE001 - one part's fault must not cost the others their hour
                failed.append(name)
                print(f"{name}: failed, {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    except GRefineError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    write_page(known_parts(given.results), given.page)
    print(given.page)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
