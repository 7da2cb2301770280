"""Do judges that need nothing fetched follow visible damage? `python -m benchmarks.classic_judges [PHOTOGRAPH ...]`.

Takes the photographs of GREFINE_DATA/kodak and those named (files or folders), blurs, compresses, noises and sharpens
each at four strengths, every one twice the last (JPEG: half the quality). Prints on which share of photographs each
judge never finds a stronger one better and finds the strongest worse than the untouched one, and which share of single
steps it does not reward. What niqe and brisque_severity are made from is computed anew from every second photograph
and judges the others, both ways round, so that no judge has seen the photograph that it judges.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from grefine.scorers import metric_q, piqe
from grefine.scorers.brisque_severity import severity
from grefine.scorers.measures import JUDGES
from grefine.scorers.niqe import niqe
from grefine.scorers.protocol import Scorer
from lab.natural_scenes import Change, blurred, compressed, noisy, photographs, sample, sharpened, statistics

LADDERS: dict[str, tuple[Change, tuple[float, ...]]] = {
    "blur, σ .5 to 4": (blurred, (0.5, 1, 2, 4)),
    "JPEG 80 to 10": (compressed, (20, 60, 80, 90)),
    "noise, σ 5 to 40": (noisy, (5, 10, 20, 40)),
    "sharpened, .5 to 4": (sharpened, (0.5, 1, 2, 4)),
}


def losses(judge: Scorer, image: Image.Image) -> np.ndarray:
    """Return how much worse a judge finds each version than the one before `(ladder, strength)`."""
    name, sign = judge.spec.name, 1 if judge.spec.direction == "lower" else -1
    first = judge([image])[0][name]
    steps = []
    for change, strengths in LADDERS.values():
        scores = judge([change(image, strength) for strength in strengths])
        steps.append(np.diff([first, *(found[name] for found in scores)]) * sign)
    return np.array(steps)


def measure(images: Sequence[Image.Image]) -> dict[str, np.ndarray]:
    """Return the losses on every photograph `(photograph, ladder, strength)` by judge."""
    samples = [sample(image) for image in images]
    found: dict[str, list[np.ndarray]] = {}
    for fold in (0, 1):
        seen = statistics([one for place, one in enumerate(samples) if place % 2 != fold])
        judges: list[Scorer] = [niqe(seen), severity(seen), piqe.load(), metric_q.load()]
        for image in images[fold::2]:
            for judge in [*judges, *(entry.load(None, "cpu") for entry in JUDGES)]:
                found.setdefault(judge.spec.name, []).append(losses(judge, image))
    return {name: np.array(steps) for name, steps in found.items()}


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Do judges that need nothing fetched follow visible damage?")
    parser.add_argument("photographs", nargs="*", type=Path)
    named = photographs(parser.parse_args().photographs)
    # By their names: the halves, and so the table, do not hang on where the photographs lie.
    images = [named[key] for key in sorted(named, key=lambda key: key.rpartition("/")[2])]
    print(f"{len(images)} photographs: share on which a judge is monotone / of single steps that it does not reward\n")
    print(f"| judge | {' | '.join(LADDERS)} |\n| --- |{' ---: |' * len(LADDERS)}")
    for name, steps in measure(images).items():
        kept = steps >= 0
        monotone = (kept.all(axis=2) & (steps.sum(axis=2) > 0)).mean(axis=0)
        cells = [f"{whole:.0%} / {step:.0%}" for whole, step in zip(monotone, kept.mean(axis=(0, 2)), strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
