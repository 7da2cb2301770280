"""BRISQUE's features against their definition, its regression by hand, PIQE by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.special import gamma

from grefine.errors import ImageError, WeightsCorrupt, WeightsMissing
from grefine.scorers.brisque import Regression, read_model
from grefine.scorers.brisque import load as load_brisque
from grefine.scorers.natural_statistics import (
    asymmetric_gaussian,
    features,
    generalised_gaussian,
    luminance,
    normalised,
)
from grefine.scorers.piqe import load, piqe


def noise(height=96, width=80, seed=0):
    return np.random.default_rng(seed).normal(128, 40, (height, width)).clip(0, 255).round()


def test_normalised_field_against_the_definition_at_one_pixel():
    grey = noise()
    offsets = np.arange(7) - 3
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    patch = grey[40 - 3 : 40 + 4, 30 - 3 : 30 + 4]
    mean = (window * patch).sum()
    deviation = np.sqrt(((patch - mean) ** 2 * window).sum())
    assert normalised(grey, "constant")[0][40, 30] == pytest.approx((grey[40, 30] - mean) / (deviation + 1))
    corner = np.zeros((7, 7))
    corner[3:, 3:] = grey[:4, :4]
    mean = (window * corner).sum()
    deviation = np.sqrt((corner**2 * window).sum() - mean**2)
    assert normalised(grey, "constant")[0][0, 0] == pytest.approx((grey[0, 0] - mean) / (deviation + 1))


def test_fits_find_the_shapes_they_were_drawn_from():
    rng = np.random.default_rng(1)
    shape, deviation = generalised_gaussian(rng.normal(0, 3, 200_000))
    assert shape == pytest.approx(2, abs=0.05)
    assert deviation == pytest.approx(3, rel=0.02)
    assert generalised_gaussian(rng.laplace(0, 1, 200_000))[0] == pytest.approx(1, abs=0.03)
    left, right = np.abs(rng.normal(0, 1, 100_000)), np.abs(rng.normal(0, 2, 200_000))
    values = np.concatenate([-left, right])
    shape, mean, low, high = asymmetric_gaussian(values)
    assert (low, high) == (pytest.approx(1, rel=0.02), pytest.approx(2, rel=0.02))
    expected = (high - low) * np.sqrt(gamma(1 / shape) / gamma(3 / shape)) * gamma(2 / shape) / gamma(1 / shape)
    assert mean == pytest.approx(expected)
    assert shape == pytest.approx(2, abs=0.1)


def test_features_are_eighteen_per_scale_in_order():
    grey = noise()
    found = features(grey)
    field, _ = normalised(grey, "constant")
    assert found.shape == (36,)
    assert found[1] == pytest.approx(np.mean(field**2))
    below = field * np.roll(field, 1, axis=0)
    assert found[8] == pytest.approx(np.mean(below[below < 0] ** 2))
    assert found[9] == pytest.approx(np.mean(below[below > 0] ** 2))
    assert features(np.full((32, 32), 7.0))[1] < 1, "a flat picture is legal"


def test_regression_by_hand():
    """Two vectors at distance 0 and 1 in one scaled feature: 3 exp(0) - 2 exp(-gamma) - offset."""
    low, high = np.zeros(36), np.full(36, 2.0)
    vectors = np.zeros((2, 36))
    vectors[1, 0] = 1.0
    regression = Regression(0.5, 0.25, np.array([3.0, -2.0]), vectors, low, high)
    assert regression.predict(np.ones(36)) == pytest.approx(3 - 2 * np.exp(-0.5) - 0.25)


def write_model(folder, kernel="rbf"):
    head = f"svm_type epsilon_svr\nkernel_type {kernel}\ngamma 0.05\nnr_class 2\ntotal_sv 2\nrho -10.5\nSV\n"
    (folder / "allmodel").write_text(head + "2.0 1:0.5 3:-0.25\n-1.0 36:1\n")
    rows = "".join(f"{i} {-i} {i}\n" for i in range(1, 37))
    (folder / "allrange").write_text("x\n-1 1\n" + rows)


def test_published_files_are_read(tmp_path):
    write_model(tmp_path)
    model = read_model(tmp_path)
    assert (model.gamma, model.offset) == (0.05, -10.5)
    assert model.vectors[0, :3].tolist() == [0.5, 0.0, -0.25]
    assert model.vectors[1, 35] == 1
    assert (model.low[35], model.high[35]) == (-36, 36)
    image = Image.fromarray(noise().astype(np.uint8)).convert("RGB")
    value = load_brisque(tmp_path, "cpu")([image])[0]["brisque"]
    assert value == pytest.approx(model.predict(features(luminance(image))))


def test_foreign_files_are_named(tmp_path):
    with pytest.raises(WeightsMissing, match="allmodel"):
        read_model(tmp_path)
    write_model(tmp_path, "linear")
    with pytest.raises(WeightsCorrupt, match="linear"):
        read_model(tmp_path)
    write_model(tmp_path)
    with pytest.raises(ImageError, match="needs 16 a side"):
        load_brisque(tmp_path, "cpu")([Image.new("RGB", (8, 40))])


def test_luminance_weights():
    image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8))
    assert luminance(image).tolist() == [[76, 150, 29]]


def test_piqe_of_flat_and_busy_pictures():
    assert piqe(np.full((64, 64), 90.0)) == 100.0, "no busy block: (0 + 1) / (0 + 1)"
    # One busy block that is neither coded nor noisy: (0 + 1) / (1 + 1).
    assert 0 <= piqe(noise(160, 160)) <= 100


def test_piqe_counts_damage_by_hand():
    """A field given block by block, so that the sum can be done on paper."""
    from grefine.scorers import piqe as module

    rng = np.random.default_rng(3)
    block = rng.normal(0, 1, (16, 16))
    spread = block.var(ddof=1)
    assert not module._coded(block)
    coded = block.copy()
    coded[0] = 0.0
    assert module._coded(coded)
    deviation = np.sqrt(spread)
    middle, rest = block[:, 7:9].std(ddof=1), np.delete(block, (7, 8), axis=1).std(ddof=1)
    beta = abs(deviation - middle / rest) / max(deviation, middle / rest)
    assert module._noisy(block, spread) == (deviation > 2 * beta)


def test_piqe_rises_with_noise():
    y, x = np.mgrid[0:192, 0:192]
    waves = 128 + 60 * np.sin(x / 3.1 + y / 11) + 50 * np.sin(y / 2.3 - x / 7)
    noisy = [waves + np.random.default_rng(0).normal(0, deviation, (192, 192)) for deviation in (15, 40)]
    low, high = (Image.fromarray(v.clip(0, 255).astype(np.uint8)).convert("RGB") for v in noisy)
    first, second = load()([low, high])
    assert first["piqe"] < second["piqe"] <= 100
