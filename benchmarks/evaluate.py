"""How long the statistics and the report take: `python -m benchmarks.evaluate [--images 1000] [--metrics 13]`.

Scores are random numbers, pictures are noise of 64 x 64 pixels: no metric runs, so what is timed is ours alone. The
alternative to the statistics is SciPy's own test of the same kind. How often verdicts are wrong is printed by
benchmarks/verdict_level.py. Writes Markdown to stdout.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats

from benchmarks.measure import compared, interleave
from benchmarks.page import compared_table
from benchmarks.part import Curve, Part, Table
from grefine.evaluate.analysis import analyse
from grefine.evaluate.report import write_report
from grefine.evaluate.statistics import SUBSETS, sign_flip
from grefine.evaluate.tables import AFTER, BEFORE, NOISE, ScoreRow
from grefine.report.entry import ReportImage, ReportText
from grefine.types import MetricSpec


def evaluated(count: int, metrics: int) -> tuple[float, float, float]:
    """Return the CPU seconds of statistics and report for so many images and metrics, and the page's KiB."""
    rng = np.random.default_rng(0)
    specs = {f"m{k}": MetricSpec(f"m{k}") for k in range(metrics)}
    names = [f"{i:05d}.png" for i in range(count)]
    rows = []
    for metric in specs:
        for name, base, gain in zip(names, rng.normal(size=len(names)), rng.normal(0.1, 1, len(names)), strict=True):
            rows += [ScoreRow(name, BEFORE, metric, base), ScoreRow(name, AFTER, metric, base + gain)]
            rows.append(ScoreRow(name, NOISE + "moved", metric, base + 0.05))
    start = time.process_time()
    analysis = analyse(rows, specs)
    statistics = time.process_time() - start
    pictures = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(64)]
    images = (ReportImage(n, pictures[i % 64], pictures[(i + 1) % 64]) for i, n in enumerate(names))
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        page = write_report(Path(folder), images, ReportText("t"), analysis=analysis, specs=specs, inline_bytes=0)
        report = time.process_time() - start
        size = page.stat().st_size
    return statistics, report, size / 1024


def part(quick: bool = False, device: str = "cpu", metrics: int = 13, most: int = 1000) -> Part:
    """Measure evaluating, its growth, and one interval against SciPy's."""
    del device
    counts = sorted({most // 10, most // 3, most}) if not quick else [most // 10, most // 2]
    costs = {count: evaluated(count, metrics) for count in counts}
    gains = np.random.default_rng(0).normal(0.3, 1.0, most)
    ways = {
        "ours": lambda: sign_flip(gains),
        "scipy": lambda: stats.permutation_test(
            (gains,), np.mean, permutation_type="samples", n_resamples=SUBSETS, rng=np.random.default_rng(0)
        ),
    }
    times = interleave(ways, 5)
    row = compared(f"sign-flip test of {most} gains", times["ours"], times["scipy"], "scipy.stats.permutation_test")
    table = Table(
        f"{metrics} metrics, before and after, with intervals and tests",
        ["images", "statistics, CPU s", "report, CPU s", "report.html, KiB"],
        [[count, *cost] for count, cost in costs.items()],
    )
    series = {
        "statistics": [[count, cost[0]] for count, cost in costs.items()],
        "report": [[count, cost[1]] for count, cost in costs.items()],
    }
    says = "Statistics and the report on random scores; no metric runs, so what is timed is ours alone."
    curve = Curve("evaluate", "Evaluating", "images", "CPU seconds", series)
    return Part("evaluate", "Evaluating", says, [row], [table], [curve])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--metrics", type=int, default=13)
    given = parser.parse_args()
    found = part(metrics=given.metrics, most=given.images)
    print("\n".join(compared_table(found.rows)))
    for row in found.tables[0].rows:
        print(dict(zip(found.tables[0].head, row, strict=True)))


if __name__ == "__main__":
    main()
