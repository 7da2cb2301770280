"""How long the statistics and the report take: `python benchmarks/evaluate.py [--images 1000] [--metrics 13]`.

Scores are random numbers, pictures are noise of 64 x 64 pixels: no metric runs, so what is timed is ours alone. Also
prints the share of 400 simulated runs whose interval covers the true gain. Writes Markdown to stdout.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from grefine.evaluate.analysis import analyse
from grefine.evaluate.long_table import AFTER, BEFORE, SHIFTED, ScoreRow
from grefine.evaluate.report import ReportImage, ReportText, write_report
from grefine.evaluate.statistics import bca_mean
from grefine.types import MetricSpec


def coverage(runs: int = 400, n: int = 60) -> float:
    """Return the share of simulated runs (normal gains, mean 0.3, deviation 1) whose interval holds the truth."""
    rng = np.random.default_rng(11)
    return float(np.mean([0.3 in bca_mean(rng.normal(0.3, 1.0, n), seed=run) for run in range(runs)]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--metrics", type=int, default=13)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    specs = {f"m{k}": MetricSpec(f"m{k}") for k in range(given.metrics)}
    names = [f"{i:05d}.png" for i in range(given.images)]
    rows = []
    for metric in specs:
        for name, base, gain in zip(names, rng.normal(size=len(names)), rng.normal(0.1, 1, len(names)), strict=True):
            rows += [ScoreRow(name, BEFORE, metric, base), ScoreRow(name, AFTER, metric, base + gain)]
            rows.append(ScoreRow(name, SHIFTED, metric, base + 0.05))
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
    print("| what | value |\n| --- | ---: |")
    print(f"| statistics, {given.metrics} metrics x {given.images} images | {statistics:.1f} CPU-s |")
    print(f"| report, {given.images} images | {report:.1f} CPU-s |")
    print(f"| report.html | {size / 1024:.0f} KiB |")
    print(f"| 400 simulated runs of 60 images: interval covers the true gain | {100 * coverage():.1f} % |")


if __name__ == "__main__":
    main()
