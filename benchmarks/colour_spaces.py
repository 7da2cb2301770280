"""LAR-IQA across colour spaces, in the form of its Fig. 3: the synthetic branch's scores of the same pictures in four.

    python benchmarks/colour_spaces.py [--steps 200]        a few CPU-minutes; writes results/colour_spaces.json, .md

One branch is taught in RGB alone, one in all four spaces, by the same recipe, steps and toy pictures with distortions
of known strength. Both then rate held-out pictures in every space.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine.evaluate.correlation import agreement
from grefine.models.lar_iqa import COLOR_SPACES, LARBranch
from grefine.scorers.lar_iqa import LARIQAScorer
from grefine.scorers.protocol import Scorer
from grefine.training.judges.catalogue import train_on_data
from lab.judges.stream import JUDGE_TEST, JUDGE_TRAIN, judged

TAUGHT = {"RGB alone": ["RGB"], "all four": list(COLOR_SPACES)}
GEOMETRY = {"encoder": "test_efficientnet", "encoder_options": {"output_stride": 8}, "features": 48, "crop_size": 64}


def pictures(seed: int, count: int) -> tuple[list[Image.Image], list[float]]:
    """Return distorted toy pictures and their true quality."""
    found = judged(seed, 77, count, damaged_share=0.0, distorted_share=0.9)
    pixels = (found.images.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return [Image.fromarray(one) for one in pixels], found.quality.tolist()


def teach(folder: Path, spaces: list[str], steps: int, count: int) -> LARBranch:
    """Train a synthetic branch on pictures written to `folder`."""
    folder.mkdir(parents=True)
    images, truth = pictures(JUDGE_TRAIN, count)
    for number, image in enumerate(images):
        image.save(folder / f"{number}.png")
    with (folder / "toy.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[f"{number}.png", value] for number, value in enumerate(truth)]
        csv.writer(file).writerows([["image", "mos"], *rows])
    changes = [f"color_spaces={json.dumps(spaces)}", f"geometry={json.dumps(GEOMETRY)}"]
    changes += ["split={kind: random}", "optimiser={kind: adamw, learning_rate: 0.002}", "schedule={kind: constant}"]
    data, how = [str(folder / "toy.csv")], {"start": ["encoder=random"], "steps": steps, "changes": changes}
    train_on_data("lar-iqa", data, "synthetic", folder / "out", cpu=True, **how)
    return LARBranch.load(folder / "out" / "synthetic")


def across(rate: dict[str, Scorer], images: list[Image.Image], truth: list[float]) -> dict[str, Any]:
    """Return, by space, agreement with the truth, the distance from the RGB scores and the scores themselves."""
    scores = {space: np.array([found["lar_iqa"] for found in scorer(images)]) for space, scorer in rate.items()}
    found = {}
    for space, values in scores.items():
        with_truth = agreement(values, truth)
        found[space] = {
            "srcc": round(with_truth.srcc, 4),
            "interval": [round(value, 4) for value in with_truth.intervals["srcc"]],
            "moved": round(float(np.abs(values - scores["RGB"]).mean() / scores["RGB"].std()), 4),
            "scores": values.round(3).tolist(),
        }
    return found


def page(found: dict[str, Any], samples: list[int]) -> str:
    """Return the result as Markdown."""
    lines = ["# LAR-IQA across colour spaces", "", __doc__.split("\n\n")[2].replace("\n", " ").strip(), ""]
    lines += [f"{found['steps']} steps of 20 of {found['training']} pictures; {found['test']} held out.", ""]
    lines += ["SRCC with the true quality [95 %]; after it how far scores move from those in RGB, on average, in"]
    lines += ["standard deviations of the latter.", "", "| taught in | " + " | ".join(COLOR_SPACES) + " |"]
    lines += ["| --- |" + " --- |" * len(COLOR_SPACES)]
    for name in TAUGHT:
        cells = [found[name][space] for space in COLOR_SPACES]
        told = [f"{c['srcc']:.3f} [{c['interval'][0]:.3f}, {c['interval'][1]:.3f}]; {c['moved']:.2f}" for c in cells]
        lines.append(f"| {name} | " + " | ".join(told) + " |")
    lines += ["", "Scores of single pictures, from worst to best, as the figure shows them:", ""]
    lines += ["| taught in | truth | " + " | ".join(COLOR_SPACES) + " |", "| --- | --- |" + " --- |" * len(COLOR_SPACES)]
    for name in TAUGHT:
        for n in samples:
            scores = " | ".join(f"{found[name][space]['scores'][n]:.3f}" for space in COLOR_SPACES)
            lines.append(f"| {name} | {found['truth'][n]:.3f} | {scores} |")
    return "\n".join([*lines, "", "    python benchmarks/colour_spaces.py", ""])


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--training", type=int, default=800, help="pictures to learn from")
    parser.add_argument("--test", type=int, default=192, help="pictures held out")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    images, truth = pictures(JUDGE_TEST, given.test)
    found: dict[str, Any] = {"steps": given.steps, "training": given.training, "test": given.test}
    found["truth"] = [round(value, 4) for value in truth]
    with tempfile.TemporaryDirectory() as place:
        for number, (name, spaces) in enumerate(TAUGHT.items()):
            branch = teach(Path(place) / str(number), spaces, given.steps, given.training)
            rate: dict[str, Scorer] = {space: LARIQAScorer(branch, space) for space in COLOR_SPACES}
            found[name] = across(rate, images, truth)
    samples = [int(n) for n in np.argsort(truth)[np.linspace(0, given.test - 1, 4).astype(int)]]
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "colour_spaces.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    (given.results / "colour_spaces.md").write_text(page(found, samples), encoding="utf-8")
    print(page(found, samples))


if __name__ == "__main__":
    main()
