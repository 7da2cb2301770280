"""Does the guard say what fell? `python -m benchmarks.guard_honesty [--copies 500] [--refined 60]`.

Takes the example pictures, makes noisy copies and JPEG copies of them, and asks the guard of the embedded pipeline
twice about each: the copy as a candidate against its original, and the original as a candidate against the copy. Of
the first copies it also asks about what the pipeline makes of them. A result is dishonest when it was accepted
although a judge, or p or a, lost more than .05 of its range and the reason does not name it. Prints a Markdown table
and exits with 1 when there is one.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from grefine import GRefinePipeline
from grefine.indicators.load import load_maps
from grefine.refine.guard import Panel, decide
from grefine.refine.maps import MapDrawer
from grefine.refine.settings import RefineConfig, resolve
from grefine.scorers.noise import SMALL, metric_width
from grefine.text.parse import parse
from grefine.types import Decision, MetricSpec, Scores

EXAMPLES = Path(__file__).parent.parent / "examples" / "images"
Outcome = tuple[Decision, Scores, Scores]


def noisy(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the picture with Gaussian noise of 1 to 25 levels."""
    changed = picture + rng.normal(0, rng.uniform(1, 25), picture.shape)
    return np.clip(changed.round(), 0, 255).astype(np.uint8)


def saved(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the picture through JPEG at quality 30 to 98, with whole or half colours."""
    out = io.BytesIO()
    quality, subsampling = int(rng.integers(30, 99)), int(rng.choice([0, 2]))
    Image.fromarray(picture).save(out, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(out).convert("RGB"))


COPIES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {"noisy": noisy, "JPEG": saved}


def examples() -> list[tuple[np.ndarray, str]]:
    """Return the example pictures with their prompts."""
    with (EXAMPLES / "prompts.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [(np.asarray(Image.open(EXAMPLES / row["file"]).convert("RGB")), row["prompt"]) for row in rows]


def unnamed(outcome: Outcome, specs: Mapping[str, MetricSpec]) -> list[str]:
    """Return the scores that fell by more than a small share of their range in an accepted result unnamed."""
    decision, before, after = outcome
    if decision.kept == "original":
        return []
    fallen = []
    for name, was in before.values.items():
        sign = -1 if specs[name].direction == "lower" else 1
        loss = sign * (was - after[name])
        if loss > SMALL * metric_width(specs[name], was) and f"{name} fell by " not in decision.reason:
            fallen.append(name)
    return fallen


def ask(copies: int, refined: int) -> Iterator[tuple[str, str, Outcome, Mapping[str, MetricSpec]]]:
    """Yield kind of copy, way of asking, what was decided, and what is known of every score."""
    pipe = GRefinePipeline.from_pretrained("tiny")
    pipe.set_progress_bar_config(disable=True)
    pictures, maps = examples(), load_maps("tiny")
    drawer, config = MapDrawer(maps.pq, maps.aq), resolve(RefineConfig(), pipe.config.refine_defaults or {}, {})
    for kind, change in COPIES.items():
        rng = np.random.default_rng(len(kind))
        for number in range(copies):
            original, prompt = pictures[number % len(pictures)]
            copy = change(original, rng)
            panel = Panel(lambda images, texts: drawer.scores(images, [parse(text) for text in texts]), pipe.judges())
            for way, pair in (("copy for original", (original, copy)), ("original for copy", (copy, original))):
                candidates = {"original": pair[0], "repainted": pair[1]}
                yield kind, way, decide(panel, candidates, prompt, config), panel.specs
            if number >= refined:
                continue
            generator = torch.Generator().manual_seed(number)
            picture = Image.fromarray(copy)
            made = pipe(prompt=prompt, image=picture, generator=generator, force=True).results[0]
            yield kind, "refined copy", (made.decision, made.before, made.after), panel.specs


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--copies", type=int, default=500, help="of each kind")
    parser.add_argument("--refined", type=int, default=60, help="copies of each kind that are refined as well")
    given = parser.parse_args()
    asked: dict[tuple[str, str], list[list[str] | None]] = {}
    for kind, way, outcome, specs in ask(given.copies, given.refined):
        accepted = outcome[0].kept != "original"
        asked.setdefault((kind, way), []).append(unnamed(outcome, specs) if accepted else None)
    print("| copies | asked | accepted | a loss unnamed |\n| --- | --- | ---: | ---: |")
    for (kind, way), found in asked.items():
        accepted = [names for names in found if names is not None]
        print(f"| {len(found)} {kind} | {way} | {len(accepted)} | {sum(bool(names) for names in accepted)} |")
    names = sorted({name for found in asked.values() for entry in found for name in entry or ()})
    print("\nUnnamed: " + (", ".join(names) or "nothing") + ".")
    sys.exit(bool(names))


if __name__ == "__main__":
    main()
