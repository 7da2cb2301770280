"""The judges that need nothing fetched: against other people's code, against their definitions, and as a whole."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from golden_classic import GOLDEN, parameters, picture

from grefine import load_scorer
from grefine.scorers.measures import blur, colourfulness, noise
from grefine.scorers.metric_q import BLOCK, CHANCE, metric_q
from grefine.scorers.niqe import niqe
from grefine.scorers.registry import metric_specs
from grefine.scorers.resolve import list_metrics
from lab import natural_scenes as scenes

ROWS = json.loads(GOLDEN.read_text())["rows"]


def as_image(grey):
    return Image.fromarray(np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"picture {row['seed']}")
def test_niqe_and_blur_are_those_of_other_packages(row):
    """basicsr's NIQE, given the same mean and covariance, halves with mirrored edges instead of cut ones."""
    mean, covariance = parameters()
    image = as_image(picture(row["seed"]))
    judge = niqe({"niqe.mean": mean, "niqe.covariance": covariance})
    assert judge([image])[0]["niqe"] == pytest.approx(row["niqe"], rel=3e-4)
    assert blur(image) == pytest.approx(row["blur"], rel=1e-9)


def test_metric_q_is_that_of_singular_values():
    grey = picture(1).astype(float)
    down, right = np.gradient(grey[: grey.shape[0] // BLOCK * BLOCK, : grey.shape[1] // BLOCK * BLOCK])
    found = []
    chance = CHANCE ** (1 / (BLOCK**2 - 1))
    for top in range(0, down.shape[0], BLOCK):
        for left in range(0, down.shape[1], BLOCK):
            inside = (slice(top, top + BLOCK), slice(left, left + BLOCK))
            first, second = np.linalg.svd(np.stack([right[inside].ravel(), down[inside].ravel()], 1))[1]
            coherence = (first - second) / (first + second)
            found.append(first * coherence if coherence > np.sqrt((1 - chance) / (1 + chance)) else 0)
    assert metric_q(grey) == pytest.approx(np.mean(found))
    assert metric_q(np.full((32, 32), 9.0)) == 0


def test_noise_and_colours_are_what_was_put_in():
    rng = np.random.default_rng(0)
    grey = (128 + rng.normal(0, 10, (300, 300))).round().astype(np.uint8)
    assert noise(as_image(grey)) == pytest.approx(10, rel=0.03)
    assert colourfulness(as_image(grey)) == 0
    halves = np.zeros((20, 20, 3), np.uint8)
    halves[:10, :, 0], halves[10:, :, 2] = 200, 100
    # Red less green: 200 and 0; yellow less blue: 100 and -100.
    assert colourfulness(Image.fromarray(halves)) == pytest.approx(np.hypot(100, 100) + 0.3 * np.hypot(100, 0))


def test_six_run_with_nothing_fetched_and_measures_judge_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path))
    running = {row["name"] for row in list_metrics() if row["runs"]}
    assert {"niqe", "brisque_severity", "piqe", "metric_q", "blur_effect", "noise_level", "colourfulness"} <= running
    assert {spec.name for spec in metric_specs() if spec.axis == "none"} == {
        "blur_effect",
        "noise_level",
        "colourfulness",
    }


def test_the_shipped_statistics_name_their_photographs_and_see_damage():
    from safetensors import safe_open

    from grefine.scorers.natural_statistics import FILE

    with safe_open(FILE, "numpy") as file:
        card = file.metadata()
    assert "astronaut.png" in card["photographs"]
    image = as_image(picture(2))
    versions = [image, scenes.blurred(image, 3), scenes.noisy(image, 30)]
    for name in ("niqe", "brisque_severity"):
        values = [scores[name] for scores in load_scorer(name)(versions)]
        assert values[0] < min(values[1:]), (name, values)


def test_flat_and_small_pictures_get_a_number_or_a_sentence():
    flat = Image.new("RGB", (128, 128), (90, 120, 60))
    for name in ("niqe", "brisque_severity", "metric_q", "blur_effect", "noise_level", "colourfulness"):
        assert np.isfinite(load_scorer(name)([flat])[0][name])
    from grefine.errors import ImageError

    with pytest.raises(ImageError, match="needs 96 a side"):
        load_scorer("niqe")([Image.new("RGB", (95, 200))])


def test_the_recipe_learns_from_pictures_and_knows_them_again(tmp_path):
    """Made of drawn textures: untouched ones are natural then, blurred ones are not; the file is read back."""
    from safetensors.numpy import load_file

    from grefine.scorers.brisque_severity import severity

    samples = [scenes.sample(as_image(picture(seed))) for seed in range(3)]
    scenes.write(tmp_path / "x.safetensors", scenes.statistics(samples), ["a"])
    parts = load_file(tmp_path / "x.safetensors")
    image = as_image(picture(7))
    versions = [image, scenes.blurred(image, 2), scenes.noisy(image, 25)]
    for judge in (niqe(parts), severity(parts)):
        values = [scores[judge.spec.name] for scores in judge(versions)]
        assert values[0] < min(values[1:])
