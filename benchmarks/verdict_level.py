"""How often a verdict is wrong, and how often it is right: `python -m benchmarks.verdict_level [--runs 2000]`.

Simulates gains of n images of which a share was left untouched (their gain is exactly zero), hands them to the very
functions that `grefine evaluate` uses, and prints one Markdown row per case: the share of runs without a true gain
that are called better or worse, the share of intervals that hold the true mean, and the share of runs with a true gain
in the touched images, of half and of one standard deviation, that are called better. Two of the kinds of gains scatter
evenly round their mean; the others have a long tail to one side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from math import exp, sqrt

import numpy as np

from grefine.evaluate.results import level_of
from grefine.evaluate.statistics import GainSummary, summarise

COUNTS = (10, 20, 40, 100)
UNTOUCHED = (0.0, 0.5, 0.7, 0.9)
KINDS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy tails": lambda rng, size: rng.standard_t(3, size) / sqrt(3),
    "a long tail (exponential)": lambda rng, size: rng.exponential(size=size) - 1,
    "a very long tail (log-normal)": lambda rng, size: (rng.lognormal(size=size) - exp(0.5)) / sqrt(exp(2) - exp(1)),
}
"""Draws of mean zero and standard deviation one."""


def simulate(kind: str, count: int, untouched: float, gain: float, runs: int) -> list[GainSummary]:
    """Return what is said of `runs` sets of gains.

    Args:
        kind: of scatter.
        count: images.
        untouched: share of them whose gain is exactly zero.
        gain: true mean gain of the others.
        runs: how many sets.
    """
    rng = np.random.default_rng([list(KINDS).index(kind), count, round(100 * untouched), round(100 * gain)])
    gains = KINDS[kind](rng, (runs, count)) + gain
    gains[:, : round(untouched * count)] = 0.0
    return [summarise(row) for row in gains]


def claimed(found: list[GainSummary], *levels: str) -> float:
    """Return the share of runs with one of these verdicts."""
    return float(np.mean([level_of(one) in levels for one in found]))


def row(kind: str, count: int, untouched: float, runs: int) -> list[str]:
    """Return one row of the table."""
    touched = count - round(untouched * count)
    none = simulate(kind, count, untouched, 0.0, runs)
    half = simulate(kind, count, untouched, 0.5, runs)
    whole = simulate(kind, count, untouched, 1.0, runs)
    wrong = claimed(none, "better", "worse")
    cells = [str(count), f"{untouched:.0%}", str(touched), f"{wrong:.1%}"]
    if np.isnan(none[0].interval.low):
        return [*cells, "no interval", "-", "-"]
    truth = 0.5 * touched / count
    covered = np.mean([0.0 in one.interval for one in none] + [truth in one.interval for one in half])
    return [*cells, f"{covered:.1%}", f"{claimed(half, 'better'):.0%}", f"{claimed(whole, 'better'):.0%}"]


def main() -> None:
    """Print one table per kind of scatter."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    head = ["images", "untouched", "touched", "false verdicts", "intervals that hold the mean"]
    head += ["found at 0.5 SD", "found at 1 SD"]
    for kind in KINDS:
        print(f"\nGains with scatter: {kind}, {runs} runs per case\n")
        print("| " + " | ".join(head) + " |\n" + "| ---: " * len(head) + "|")
        for count, untouched in product(COUNTS, UNTOUCHED):
            print("| " + " | ".join(row(kind, count, untouched, runs)) + " |", flush=True)


if __name__ == "__main__":
    main()
