"""LAR-IQA across colour spaces, as the poster's Fig. 3 shows it: scores of the same pictures in each of four.

    python -m benchmarks.colour_spaces      one CPU-minute; writes results/colour_spaces.json, .md and the figure

The pictures are the toy world's, whose true quality is known. The embedded pipeline's network knows RGB alone. Its
synthetic branch is taught further by `grefine train lar-iqa --config synthetic`, once in RGB and once in all four (the
recipe's default), with the same steps on the same pictures, so that what differs is what the spaces do.
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
from safetensors.torch import load_file, save_file

from grefine.evaluate.correlation import agreement
from grefine.models.lar_iqa import COLOR_SPACES, LARIQA, LARBranch
from grefine.scorers.component import load_component
from grefine.scorers.lar_iqa import LARIQAScorer
from grefine.training.judges.catalogue import train_on_data
from lab.judges.stream import JUDGE_TEST, JUDGE_TRAIN, judged

ROOT = Path(__file__).parent.parent
TINY = ROOT / "pipelines" / "tiny" / "lar_iqa"
SHIPPED = "both branches, as shipped (RGB)"
TAUGHT = {"synthetic branch, taught in RGB": ["RGB"], "synthetic branch, taught in all four": list(COLOR_SPACES)}
NAMES = (SHIPPED, *TAUGHT)
SHOWN = 6
"""Pictures in the figure."""


def pictures(seed: int, count: int) -> tuple[list[Image.Image], list[float]]:
    """Return distorted toy pictures and their true quality."""
    found = judged(seed, 77, count, damaged_share=0.0, distorted_share=0.5)
    pixels = (found.images.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return [Image.fromarray(one) for one in pixels], found.quality.tolist()


def teach(folder: Path, spaces: list[str], steps: int, count: int) -> LARBranch:
    """Train the embedded network's synthetic branch on pictures written to `folder`."""
    folder.mkdir(parents=True)
    images, truth = pictures(JUDGE_TRAIN, count)
    for number, image in enumerate(images):
        image.save(folder / f"{number}.png")
    with (folder / "toy.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "mos"], *([f"{n}.png", value] for n, value in enumerate(truth))])
    shipped = load_file(TINY / "diffusion_pytorch_model.safetensors")
    branch = {key.removeprefix("synthetic."): v.float() for key, v in shipped.items() if key.startswith("synthetic.")}
    save_file(branch, folder / "branch.safetensors")
    config = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
    geometry = {name: config[name] for name in ("encoder", "encoder_options", "features", "crop_size")}
    changes = [f"color_spaces={json.dumps(spaces)}", f"geometry={json.dumps(geometry)}", "split={kind: random}"]
    changes += ["optimiser={learning_rate: 0.002}", f"schedule={{kind: cosine-steps, period: {steps}}}"]
    start = [f"encoder={folder / 'branch.safetensors'}"]
    train_on_data(
        "lar-iqa", [str(folder / "toy.csv")], "synthetic", folder / "out", changes=changes, start=start, steps=steps,
        cpu=True,
    )  # fmt: skip
    return LARBranch.load(folder / "out" / "synthetic")


def across(network: LARIQA | LARBranch, images: list[Image.Image], truth: list[float]) -> dict[str, Any]:
    """Return, by space, agreement with the truth, the distance from the RGB scores and the scores themselves."""
    scores = {s: np.array([one["lar_iqa"] for one in LARIQAScorer(network, s)(images)]) for s in COLOR_SPACES}
    found = {}
    for space, values in scores.items():
        against = agreement(values, truth)
        found[space] = {
            "srcc": round(against.srcc, 4),
            "interval": [round(value, 4) for value in against.intervals["srcc"]],
            "moved": round(float(np.abs(values - scores["RGB"]).mean() / scores["RGB"].std()), 4),
            "scores": values.round(4).tolist(),
        }
    return found


def samples(truth: list[float]) -> list[int]:
    """Return pictures from the worst to the best."""
    return [int(n) for n in np.argsort(truth)[np.linspace(0, len(truth) - 1, SHOWN).astype(int)]]


def page(found: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    heading = "| network | " + " | ".join(COLOR_SPACES) + " |\n| --- |" + " --- |" * len(COLOR_SPACES)

    def cell(one: dict[str, Any]) -> str:
        return f"{one['srcc']:.3f} [{one['interval'][0]:.3f}, {one['interval'][1]:.3f}]; {one['moved']:.2f}"

    rows = "\n".join(f"| {n} | " + " | ".join(cell(found[n][s]) for s in COLOR_SPACES) + " |" for n in NAMES)
    return f"""# LAR-IQA across colour spaces

{__doc__.split(chr(10) * 2)[2].strip()}

{found["steps"]} steps of 20 of {found["training"]} pictures; measured on {found["test"]} others. Each cell: SRCC with
the true quality [95 %]; after it how far scores move from those in RGB, on average, in standard deviations of those.

{heading}
{rows}

The figure, docs/img/colour_spaces.png, shows the scores of {SHOWN} of the pictures.

    python -m benchmarks.colour_spaces
"""


def draw(found: dict[str, Any], images: list[Image.Image], path: Path) -> None:
    """Draw the scores of a few pictures in every space, one panel for each network."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = samples(found["truth"])
    figure = plt.figure(figsize=(10, 4.2))
    grid = figure.add_gridspec(2, len(NAMES), height_ratios=(4, 1), hspace=0.08, wspace=0.12)
    for column, name in enumerate(NAMES):
        axis = figure.add_subplot(grid[0, column])
        for place, space in enumerate(COLOR_SPACES):
            at = np.arange(SHOWN) + 0.19 * (place - 1.5)
            axis.bar(at, [found[name][space]["scores"][n] for n in shown], 0.18, label=space)
        axis.plot(range(SHOWN), [found["truth"][n] for n in shown], "k_", markersize=22, label="true quality")
        axis.set(title=name, ylim=(-0.1, 1.2), xlim=(-0.5, SHOWN - 0.5), xticks=[])
        axis.title.set_fontsize(9)
        if column:
            axis.set_yticklabels([])
        strip = figure.add_subplot(grid[1, column])
        strip.imshow(np.concatenate([np.asarray(images[n]) for n in shown], axis=1))
        strip.set_axis_off()
    figure.axes[0].legend(fontsize=7, loc="upper left", ncols=2)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="of the two branches")
    parser.add_argument("--training", type=int, default=800, help="pictures to learn from")
    parser.add_argument("--test", type=int, default=128, help="pictures held out")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "img" / "colour_spaces.png")
    given = parser.parse_args()
    images, truth = pictures(JUDGE_TEST, given.test)
    found: dict[str, Any] = {"steps": given.steps, "training": given.training, "test": given.test}
    found["truth"] = [round(value, 4) for value in truth]
    found[SHIPPED] = across(load_component(LARIQA, TINY, "cpu"), images, truth)
    with tempfile.TemporaryDirectory() as place:
        for number, (name, spaces) in enumerate(TAUGHT.items()):
            found[name] = across(teach(Path(place) / str(number), spaces, given.steps, given.training), images, truth)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "colour_spaces.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    (given.results / "colour_spaces.md").write_text(page(found), encoding="utf-8")
    draw(found, images, given.figure)
    print(page(found))


if __name__ == "__main__":
    main()
