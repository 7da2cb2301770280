"""PQ-Map over a small random CLIP: both modes, scores, bounds, batches, tiles, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import clip, picture, prompts

from grefine.errors import ConfigError, ImageError
from grefine.indicators.encoding import encode_images
from grefine.indicators.pq_map import PQMap, cask

IMAGES = [picture(64, 64), picture(90, 50, 1), picture(64, 128, 2)]


@pytest.fixture(scope="module")
def pq():
    return PQMap(clip(), prompts())


def test_map_has_the_images_size_and_range(pq):
    for image, result in zip(IMAGES, pq(IMAGES), strict=True):
        assert result.values.shape == (image.height, image.width)
        assert result.values.dtype == np.float32
        assert result.values.min() >= 0.0
        assert result.values.max() <= 1.0
        assert 0.0 <= result.score <= 1.0
        assert list(result.factors) == ["overall", "technical", "rational", "natural"]


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_batch_equals_singles(mode):
    pq = PQMap(clip(), prompts(), readings={"map_mode": mode}, batch_size=2)
    for image, together in zip(IMAGES, pq(IMAGES), strict=True):
        alone = pq([image])[0]
        np.testing.assert_allclose(together.values, alone.values, atol=2e-6)
        assert together.score == pytest.approx(alone.score, abs=1e-6)


def test_cpu_is_reproducible(pq):
    first, second = pq(IMAGES), pq(IMAGES)
    assert all(np.array_equal(a.values, b.values) and a.score == b.score for a, b in zip(first, second, strict=True))


def test_cask_takes_off_only_what_falls_short():
    alpha = torch.tensor([0.9, 0.5, 0.6])
    assert cask(torch.tensor([0.8, 0.95, 0.5, 0.7]), alpha).item() == pytest.approx(0.8)
    assert cask(torch.tensor([0.8, 0.45, 0.25, 0.7]), alpha).item() == pytest.approx(0.8 * 0.5 * 0.5)


def test_score_is_eq_3_on_the_class_token(pq):
    result = pq(IMAGES[:1])[0]
    overall, *rest = result.factors.values()
    for value, limit in zip(rest, (0.935, 0.892 * 0.6, 0.826 * 0.8), strict=True):
        overall *= min(value / limit, 1.0)
    assert result.score == pytest.approx(overall, rel=1e-5)
    single = PQMap(clip(), prompts(), readings={"p_mode": "single"})(IMAGES[:1])[0]
    assert single.score == pytest.approx(result.factors["overall"])


def test_stricter_bounds_lower_p_and_the_map():
    mild = PQMap(clip(), prompts(), readings={"alpha": (0.3, 0.3, 0.3), "bounds": (1, 1, 1)})(IMAGES[:1])[0]
    strict = PQMap(clip(), prompts(), readings={"alpha": (0.9, 0.9, 0.9), "bounds": (1, 1, 1)})(IMAGES[:1])[0]
    assert strict.score < mild.score
    assert strict.values.mean() < mild.values.mean()


def test_released_maps_reach_both_ends_paper_maps_are_absolute(pq):
    released = PQMap(clip(), prompts(), readings={"map_mode": "released"})
    image = IMAGES[0]
    grid = released._released_map(released.encode([image]), 0, released._logits(released.encode([image]).whole)[0])
    assert (grid.patches[0][1].min(), grid.patches[0][1].max()) == (0.0, 1.0)
    flat = Image.new("RGB", (64, 64), (120, 130, 140))
    paper = pq([flat])[0].values
    assert paper.max() - paper.min() < 0.9


def test_encoding_is_shared_and_checked(pq):
    encoding = pq.encode(IMAGES)
    assert np.array_equal(pq(IMAGES, encoding)[1].values, pq(IMAGES)[1].values)
    with pytest.raises(ConfigError, match="3 images, but 1"):
        pq(IMAGES[:1], encoding)


def test_text_is_encoded_once_and_again_after_training(monkeypatch):
    model = clip()
    calls = []
    encode = type(model).encode_embeddings
    monkeypatch.setattr(type(model), "encode_embeddings", lambda self, *a: calls.append(1) or encode(self, *a))
    learned = prompts()
    pq = PQMap(model, learned)
    pq(IMAGES)
    pq(IMAGES)
    assert len(calls) == 1
    with torch.no_grad():
        learned.ctx.add_(0.0)
    pq(IMAGES)
    assert len(calls) == 2


def test_large_images_get_tiles_and_finer_grids_are_finer():
    large = picture(400, 300, 4)
    encoding = PQMap(clip(), prompts(), side=96).encode([large])
    assert len(encoding.views[0]) > 1
    assert encoding.grid == (12, 12)
    assert encoding.whole.shape == (1, 65, 32), "scores come from the native pass"
    plain = PQMap(clip(), prompts(), tiles=1)
    assert len(plain.encode([large]).views[0]) == 1
    assert PQMap(clip(), prompts())([large])[0].score == plain([large])[0].score


def test_released_maps_are_never_tiled():
    encoding = PQMap(clip(), prompts(), readings={"map_mode": "released"}).encode([picture(400, 300)])
    assert len(encoding.views[0]) == 1


def test_calibration_rescales():
    raw = PQMap(clip(), prompts())(IMAGES[:1])[0]
    scaled = PQMap(clip(), prompts(), calibration={"map_scale": 0.5, "score_scale": 0.25})(IMAGES[:1])[0]
    assert scaled.score == pytest.approx(min(raw.score / 0.25, 1.0), rel=1e-5)
    assert scaled.values.mean() > raw.values.mean()


def test_bfloat16_stays_close():
    model = type(clip()).from_config(clip().config).eval()
    model.load_state_dict(clip().state_dict())
    model.to(torch.bfloat16)
    exact, coarse = PQMap(clip(), prompts())(IMAGES), PQMap(model, prompts())(IMAGES)
    for a, b in zip(exact, coarse, strict=True):
        assert abs(a.score - b.score) < 0.05
        assert np.abs(a.values - b.values).max() < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readings": {"map_mode": "papers"}}, "paper, released"),
        ({"readings": {"p_mode": "both"}}, "multi, single"),
        ({"readings": {"feature_norm": "layer"}}, "token, channel"),
        ({"readings": {"alpha": (0.9, 0.8, -1.0)}}, "three positive numbers"),
        ({"readings": {"bounds": (0.0, 1.0, 1.0)}}, "three positive numbers"),
        ({"readings": {"map_mode": "released"}, "side": 96}, "finer grid"),
        ({"calibration": {"map_scael": 2.0}}, "did you mean 'map_scale'"),
        ({"calibration": 3}, "must be a dictionary"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        PQMap(clip(), prompts(), **options)


def test_wrong_images(pq):
    with pytest.raises(ImageError, match="non-empty list"):
        pq([])
    with pytest.raises(ImageError, match="non-empty list"):
        pq(IMAGES[0])
    with pytest.raises(ImageError, match="PIL.Image.fromarray"):
        pq([np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(ImageError, match="without pixels"):
        pq([Image.new("RGB", (0, 5))])
    with pytest.raises(ConfigError, match="patch size 8"):
        encode_images(clip(), IMAGES, side=60)
    with pytest.raises(ConfigError, match="tiles must be"):
        encode_images(clip(), IMAGES, tiles=0)


def test_weights_that_give_nan_are_refused():
    broken = type(clip()).from_config(clip().config).eval()
    with torch.no_grad():
        broken.clip.visual.proj.fill_(float("nan"))
    with pytest.raises(ImageError, match="not finite"):
        PQMap(broken, prompts())(IMAGES)


def test_from_reference_names_what_is_missing():
    with pytest.raises(ConfigError, match="missing: prompts"):
        PQMap.from_reference({"clip": {}})
