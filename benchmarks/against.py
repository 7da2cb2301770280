"""What a change made faster: one case under an older revision and under the working tree, in turns.

    python -m benchmarks.against REVISION [--case refine] [--rounds 5] [--runs 5]

Each round starts one process per side; each process warms up, then times `runs` runs. The older `grefine/` is taken
out of git into a temporary folder; pipelines and pictures are those of the working tree for both.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def refine_case() -> Callable[[], object]:
    """Refine an example whose colour is wrong: maps, plan, 10 + 10 steps, guard."""
    return _example("09_colour.png")


def clean_case() -> Callable[[], object]:
    """Look at an example that needs nothing."""
    return _example("01_clean.png")


def phrases_case() -> Callable[[], object]:
    """Look at a picture under a prompt of sixty phrases, and plan."""
    import torch

    pipe = _pipeline()
    image, _ = _picture("01_clean.png")
    colours, nouns = ("red", "blue", "green", "white", "pink", "yellow"), ("ball", "box", "cone", "star", "heart")
    prompt = (
        ", ".join(f"a {c} {n}" for c in colours for n in nouns)
        + ", "
        + ", ".join(f"a big {c} {n}" for c in colours for n in nouns)
    )
    return lambda: pipe(prompt=prompt, image=image, plan_only=True, generator=torch.Generator().manual_seed(0))


CASES = {"refine": refine_case, "clean": clean_case, "phrases": phrases_case}


def measure(case: str, runs: int) -> list[float]:
    """Time one case in this process; return CPU seconds of every run."""
    import torch

    torch.set_num_threads(1)
    run = CASES[case]()
    run()
    found = []
    for _ in range(runs):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return found


def compare(revision: str, case: str, rounds: int, runs: int) -> dict[str, float]:
    """Alternate both sides and return the medians of their best runs, and the ratios' spread."""
    with tempfile.TemporaryDirectory() as name:
        old = Path(name)
        archive = subprocess.run(
            ["git", "archive", revision, "grefine", "configs"], cwd=ROOT, capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(old, filter="data")
        best: dict[str, list[float]] = {"before": [], "after": []}
        for _ in range(rounds):
            for side, folder in (("before", old), ("after", ROOT)):
                best[side].append(min(_in_process(folder, case, runs)))
    ratios = [b / a for b, a in zip(best["before"], best["after"], strict=True)]
    medians = {side: statistics.median(values) for side, values in best.items()}
    return medians | {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def _in_process(folder: Path, case: str, runs: int) -> list[float]:
    command = [sys.executable, __file__, "--one", case, "--runs", str(runs)]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _pipeline() -> object:
    from grefine import GRefinePipeline

    pipe = GRefinePipeline.from_pretrained(str(ROOT / "pipelines" / "tiny"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _picture(name: str) -> tuple[object, str]:
    from PIL import Image

    folder = ROOT / "examples" / "images"
    with (folder / "prompts.csv").open() as table:
        prompts = {row["file"]: row["prompt"] for row in csv.DictReader(table)}
    return Image.open(folder / name), prompts[name]


def _example(name: str) -> Callable[[], object]:
    import torch

    pipe = _pipeline()
    image, prompt = _picture(name)
    return lambda: pipe(prompt=prompt, image=image, generator=torch.Generator().manual_seed(0))


def main() -> None:
    """Compare and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision", nargs="?", default="HEAD")
    parser.add_argument("--case", default="refine", choices=sorted(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.runs)))
        return
    found = compare(given.revision, given.case, given.rounds, given.runs)
    print(
        f"{given.case}: {found['before']:.3f} -> {found['after']:.3f} CPU s, {found['ratio']:.2f} times faster "
        f"({found['low']:.2f} to {found['high']:.2f}, {given.rounds} rounds)"
    )


if __name__ == "__main__":
    main()
