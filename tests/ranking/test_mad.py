"""MAD selection, its distances, and the study folders made of it."""

from __future__ import annotations

import shutil
import time

import numpy as np
import pytest
from golden_weights import load_golden, reference_image
from PIL import Image
from study_fixtures import METHODS, make_study, write_methods

from grefine.errors import ConfigError, ImageError, WeightsMissing
from grefine.ranking.features import (
    FeatureDistances,
    OfflineDistances,
    appearance,
    appearance_distance,
    described,
    layout,
    match_methods,
    standardised,
)
from grefine.ranking.select import PairsConfig, build_study, choose_distances, greedy_mad, random_picks
from grefine.ranking.study import load_study

GOLDEN_MAD = load_golden("sr_iqa_rectifier.json")["mad_selection"]


@pytest.mark.parametrize("value", sorted(GOLDEN_MAD["lambda"]))
def test_parity_mad_order(value):
    case = GOLDEN_MAD["lambda"][value]
    distances = FeatureDistances(np.array(GOLDEN_MAD["features"]))
    picks = greedy_mad(np.array(GOLDEN_MAD["d1"]), distances, len(case["order"]), float(value))
    assert [GOLDEN_MAD["images"][p.index] for p in picks] == case["order"]
    np.testing.assert_allclose(
        [float(value) * p.d2 for p in picks][1:], case["lambda_times_D2"][1:], rtol=1e-4, atol=1e-6
    )


def by_definition(d1, features, k, lambda_):
    """Eq. 1 with every distance computed anew."""
    chosen = [int(np.argmax(d1))]
    while len(chosen) < k:
        free = [i for i in range(len(d1)) if i not in chosen]
        gain = [d1[i] + lambda_ * np.mean([((features[i] - features[c]) ** 2).mean() for c in chosen]) for i in free]
        chosen.append(free[int(np.argmax(gain))])
    return chosen


@pytest.mark.parametrize("seed", range(3))
def test_the_incremental_form_equals_the_definition(seed):
    generator = np.random.default_rng(seed)
    d1, features = generator.random(40), generator.standard_normal((40, 5)).astype(np.float32)
    picks = greedy_mad(d1, FeatureDistances(features), 10, 0.3)
    assert [p.index for p in picks] == by_definition(d1, features, 10, 0.3)


def test_each_pick_costs_one_row_of_distances():
    asked = []

    def distances(index):
        asked.append(index)
        return np.zeros(50)

    greedy_mad(np.arange(50.0), distances, 7)
    assert len(asked) == 7
    greedy_mad(np.arange(50.0), distances, 7, lambda_=0)
    assert len(asked) == 7, "without D2 no distance is needed"


def test_ties_go_to_the_first_and_few_images_are_all_taken():
    picks = greedy_mad(np.array([1.0, 2.0, 2.0]), lambda i: np.zeros(3), 5)
    assert [p.index for p in picks] == [1, 2, 0]
    with pytest.raises(ConfigError, match="not finite"):
        greedy_mad(np.array([np.nan, 1]), lambda i: np.zeros(2), 1)


def test_random_picks_leave_out_what_is_taken():
    found = random_picks(10, 5, np.random.default_rng(0), set(range(6)))
    assert sorted(found) == [6, 7, 8, 9]


def picture(salt, size=(96, 128)):
    return Image.fromarray(reference_image(salt, *size))


def test_appearance_grows_with_damage():
    from PIL import ImageFilter

    clean = picture("a")
    distance = [
        appearance_distance(appearance(clean)[None], appearance(clean.filter(ImageFilter.GaussianBlur(r)))[None])[0]
        for r in (0, 1, 3, 8)
    ]
    other = appearance_distance(appearance(clean)[None], appearance(picture("b"))[None])[0]
    assert distance[0] == 0
    assert distance == sorted(distance)
    assert distance[-1] < other


def test_layout_tells_scenes_apart_and_forgives_grain():
    noise = np.random.default_rng(0).integers(-20, 21, (96, 128, 3))
    grainy = Image.fromarray((np.asarray(picture("a")).astype(int) + noise).clip(0, 255).astype(np.uint8))
    a, same, b = (layout(i) for i in (picture("a"), grainy, picture("b")))
    assert ((a - same) ** 2).mean() < 0.2 * ((a - b) ** 2).mean()


def test_standardised_features_are_one_apart():
    features = standardised(np.random.default_rng(0).normal(3, 7, (400, 20)))
    d = ((features[:200] - features[200:]) ** 2).mean()
    assert d == pytest.approx(1, abs=0.05)
    assert np.ptp(standardised(np.ones((4, 2)))) == 0


def test_descriptors_are_read_from_the_cache_until_a_file_changes(tmp_path):
    folder = write_methods(tmp_path, images=3)[0]
    paths, asked = sorted(folder.iterdir()), []

    def describe(image):
        asked.append(1)
        return appearance(image)

    first = described(paths, describe, "x", tmp_path / "cache")
    assert np.array_equal(described(paths, describe, "x", tmp_path / "cache"), first)
    assert len(asked) == 3
    time.sleep(0.01)
    picture("new", (48, 64)).save(paths[1])
    assert not np.array_equal(described(paths, describe, "x", tmp_path / "cache")[1], first[1])
    assert len(asked) == 4
    (tmp_path / "cache" / "x.npz").write_bytes(b"broken")
    described(paths, describe, "x", tmp_path / "cache")
    assert len(asked) == 7


def test_a_study_has_what_was_asked_for(tmp_path):
    folder = make_study(tmp_path, k=3, random=1, training=2, attention=2)
    study = load_study(folder)
    assert sorted(study.methods) == sorted(METHODS)
    assert len(study.pairs) == 3 * 4
    assert [p.group for p in study.pairs].count("random") == 3
    for a, b in {(p.method_a, p.method_b) for p in study.pairs}:
        images = [p.image for p in study.pairs if (p.method_a, p.method_b) == (a, b)]
        assert len(set(images)) == 4
    assert (len(study.check_pairs("training")), len(study.check_pairs("attention"))) == (2, 2)
    assert study.appearance == "offline-appearance-1"
    assert {p.name for p in (folder / "images").iterdir()} == set(study.images)


def test_the_same_choice_every_time(tmp_path):
    one, two = make_study(tmp_path / "a", random=1), make_study(tmp_path / "b", random=1)
    assert load_study(one).digest == load_study(two).digest


def test_a_study_is_not_overwritten(tmp_path):
    folder = make_study(tmp_path)
    with pytest.raises(ConfigError, match="already holds a study"):
        build_study(sorted((tmp_path / "methods").iterdir()), folder)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"k": 0}, "at least one image"),
        ({"lambda_": -1.0}, "lambda"),
        ({"training": -1}, "training is -1"),
        ({"distance": "magic"}, "auto, offline or deep"),
    ],
)
def test_bad_settings(tmp_path, settings, says):
    with pytest.raises(ConfigError, match=says):
        make_study(tmp_path, **settings)


def test_missing_images(tmp_path):
    folders = write_methods(tmp_path, images=4)
    (folders[1] / "im2.png").unlink()
    with pytest.raises(ConfigError, match="'beta' lacks 1 of 4 images, first 'im2'"):
        match_methods(folders)
    assert match_methods(folders, common=True).names == ("im0", "im1", "im3")
    with pytest.raises(ConfigError, match="at least two methods"):
        match_methods(folders[:1])
    with pytest.raises(ConfigError, match="not a folder"):
        match_methods([folders[0], tmp_path / "none"])
    (tmp_path / "deep" / "alpha").mkdir(parents=True)
    with pytest.raises(ConfigError, match="named 'alpha'"):
        match_methods([folders[0], tmp_path / "deep" / "alpha"])
    shutil.copy(folders[0] / "im0.png", folders[0] / "im0.jpg")
    with pytest.raises(ConfigError, match="two images named 'im0'"):
        match_methods(folders)


def test_a_damaged_image_is_named(tmp_path):
    folders = write_methods(tmp_path, images=2)
    (folders[0] / "im1.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="im1.png"):
        build_study(folders, tmp_path / "study", PairsConfig(distance="offline"))


def test_deep_distances_say_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path))
    with pytest.raises(WeightsMissing, match="DISTS_weights"):
        choose_distances("deep")
    assert isinstance(choose_distances("auto"), OfflineDistances)
