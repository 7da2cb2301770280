"""Pictures and judges for the evaluation's tests: small, seeded, and real measurements."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image, ImageFilter

from grefine.types import MetricSpec, Scores


class PixelJudge:
    """A scorer that measures the luminance; it counts what it was given."""

    def __init__(self, name, measure, **facts):
        self.spec = MetricSpec(name, **facts)
        self.measure = measure
        self.calls = 0

    def __call__(self, images, prompts=None):
        self.calls += len(images)
        return [Scores({self.spec.name: float(self.measure(np.asarray(i.convert("L"), float)))}) for i in images]


def laplacian(x):
    return 4 * x[1:-1, 1:-1] - x[:-2, 1:-1] - x[2:, 1:-1] - x[1:-1, :-2] - x[1:-1, 2:]


def sharpness(x):
    return np.log(1e-3 + laplacian(x).var())


def softness(x):
    return -np.abs(np.diff(x, axis=1)).mean()


@pytest.fixture
def judges():
    """Two no-reference judges: edges (higher is better) and softness (lower is better)."""
    return [PixelJudge("edges", sharpness), PixelJudge("softness", softness, direction="lower")]


@pytest.fixture
def make_judge():
    return PixelJudge


def picture(seed, side=48):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    values = np.stack([x, y, 1 - x], -1) * rng.uniform(0.3, 1, 3)
    for _ in range(4):
        cx, cy, r = rng.uniform(0.1, 0.9, 3)
        values[(x - cx) ** 2 + (y - cy) ** 2 < (r / 4) ** 2] = rng.random(3)
    return Image.fromarray((np.clip(values + rng.normal(0, 0.02, values.shape), 0, 1) * 255).astype(np.uint8))


@pytest.fixture
def make_picture():
    return picture


@pytest.fixture
def folders(tmp_path):
    """Return a function that writes `before` and `after`, and a prompt table; `change` makes the after picture."""

    def write(count=12, change=lambda image, index: image, names="{0:02d}.png"):
        rows = []
        for index in range(count):
            name = names.format(index)
            for folder, image in (("before", picture(index)), ("after", change(picture(index), index))):
                path = tmp_path / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
            rows.append((name, f"a ball number {index}", "ABC"[index % 3]))
        with (tmp_path / "prompts.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("file_name", "prompt", "generator"), *rows])
        return tmp_path / "before", tmp_path / "after", tmp_path / "prompts.csv"

    return write


@pytest.fixture
def blur():
    return lambda image, index: image.filter(ImageFilter.GaussianBlur(1.5))
