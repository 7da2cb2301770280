"""The rectifier and the five-level judge: shapes, wrong input, batches, saving, parity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_weights import load_golden, reference_image, reference_state, reference_tensor
from PIL import Image

from grefine.errors import ConfigError, WeightsCorrupt
from grefine.models.five_level import FiveLevelCLIP, fitted, spread_indices, window_places
from grefine.models.rectifier import Rectifier

TINY = {
    "embed_dim": 32,
    "patch_size": 32,
    "vision_width": 64,
    "vision_layers": 2,
    "vision_heads": 1,
    "text_width": 64,
    "text_layers": 2,
    "text_heads": 1,
}


@pytest.fixture(scope="module")
def golden():
    return load_golden("sr_iqa_rectifier.json")


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return FiveLevelCLIP(**TINY).eval()


def picture(height, width, salt="test"):
    return Image.fromarray(reference_image(salt, height, width))


def rectifier_of(golden):
    return Rectifier.from_reference({"rectifier": reference_state(golden["shapes"], golden["salt"])})


def close(found, expected, golden):
    np.testing.assert_allclose(np.asarray(found), expected, atol=golden["tolerance"], rtol=0)


def test_parity_rectifier(golden):
    given = golden["inputs"]["rectifier"]
    shape = given["features"]["shape"]
    features = 10 * reference_tensor("rectifier.input", (int(np.prod(shape)),), golden["salt"]).reshape(shape)
    features[1] = np.abs(features[1])
    np.testing.assert_allclose(features.ravel()[:8], given["features"]["first8"], rtol=1e-5)
    with torch.no_grad():
        out = rectifier_of(golden)(torch.from_numpy(features), torch.tensor(given["q"]))
    for name in ("alpha", "beta", "score"):
        close(getattr(out, name), golden["outputs"]["rectifier"][name], golden)


def test_parity_rectifier_negative_alpha(golden):
    case, width = golden["inputs"]["rectifier_negative_alpha"], golden["shapes"]["mlp.0.weight"][1]
    key = case["rule"].split('"')[1]
    features = 10 * torch.from_numpy(reference_tensor(key, (width,), golden["salt"])).view(1, 1, width)
    with torch.no_grad():
        out = rectifier_of(golden)(features, torch.tensor(case["q"]))
    assert out.alpha.item() < 0
    for name in ("alpha", "beta", "score"):
        close(getattr(out, name), golden["outputs"]["rectifier_negative_alpha"][name], golden)


@pytest.mark.slow
def test_parity_five_level_judge(golden):
    component = golden["components"]["q_w"]
    state = reference_state(component["shapes"], golden["salt"])
    for key, value in component["override"].items():
        state[key] = np.float32(value).reshape(state[key].shape)
    recipes = {
        "train": FiveLevelCLIP.from_reference({"clip": state}, repeat_windows=True),
        "demo": FiveLevelCLIP.from_reference(
            {"clip": state}, repeat_windows=True, normalise=False, template="a photo of {} quality"
        ),
    }
    for name, text in golden["outputs"]["text"].items():
        assert recipes[name].token_ids()[:, :8].tolist() == text["tokens_first8"]
        with torch.no_grad():
            embedding = recipes[name].text_features()
        close(embedding.flatten()[:8], text["embedding"]["first8"], golden)
        close(embedding.std(correction=0), text["embedding"]["std"], golden)
    for name, case in golden["inputs"]["q_w"].items():
        model = recipes[case["recipe"]]
        image = Image.fromarray(reference_image(golden["salt"], *case["reference_image"]))
        windows = model.read_windows(image)
        expected = case["patches_before_normalisation"]
        assert list(windows.shape) == expected["shape"]
        close(windows.flatten()[:8], expected["first8"], golden)
        close(windows.mean(), expected["mean"], golden)
        close(windows[3, 1, 112, 100:108], case["patch3_centre_first8"], golden)
        out = model.judge([image], features="embedding")
        found = golden["outputs"]["q_w"][name]
        close(out.logits[0], found["logits_mean_over_patches"], golden)
        close(out.probabilities[0], found["probabilities"], golden)
        close(out.quality[0], found["q"], golden)
        if name.startswith("A") and case["recipe"] == "train":
            first = model(windows[None, :1], features="embedding").features
            patch = golden["outputs"]["q_w"]["image_embedding_A_patch0"]
            close(first.detach().flatten()[:8], patch["first8"], golden)


def test_rectifier_starts_at_the_judges_own_score():
    q = torch.linspace(1, 5, 4)
    out = Rectifier(width=8, start=1e-3).eval()(torch.randn(4, 3, 8), q)
    torch.testing.assert_close(out.score, q, atol=1e-2, rtol=0)


def test_alpha_never_turns_an_order_round():
    torch.manual_seed(1)
    h, features = Rectifier(width=8, use_beta=False).eval(), 5 * torch.randn(1, 3, 8)
    low, high = h(features, torch.tensor([2.0])), h(features, torch.tensor([3.0]))
    assert high.score - low.score >= 1
    assert not low.beta.any()


def test_every_parameter_of_the_rectifier_learns():
    torch.manual_seed(2)
    h = Rectifier(width=8)
    h(torch.randn(16, 3, 8), torch.rand(16)).score.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in h.parameters())


def test_rectifier_batch_equals_singles():
    h, features, q = Rectifier(width=8).eval(), torch.randn(5, 3, 8), torch.rand(5)
    singles = torch.cat([h(f[None], s[None]).score for f, s in zip(features, q, strict=True)])
    torch.testing.assert_close(h(features, q).score, singles)


@pytest.mark.parametrize(("features", "q"), [((2, 3, 7), 2), ((2, 3, 8), 3), ((2, 3, 8, 1), 2)])
def test_rectifier_refuses_wrong_shapes(features, q):
    with pytest.raises(ConfigError, match="rectifier takes"):
        Rectifier(width=8)(torch.zeros(features), torch.zeros(q))


def test_rectifier_refuses_useless_settings():
    with pytest.raises(ConfigError, match="changes nothing"):
        Rectifier(use_alpha=False, use_beta=False)
    with pytest.raises(ConfigError, match="start must be positive"):
        Rectifier(start=0)


def test_rectifier_saves_and_loads(tmp_path):
    h, features, q = Rectifier(width=8).eval(), torch.randn(2, 3, 8), torch.rand(2)
    h.save_pretrained(tmp_path)
    torch.testing.assert_close(Rectifier.from_pretrained(tmp_path).eval()(features, q).score, h(features, q).score)


def test_rectifier_refuses_foreign_weights(golden):
    with pytest.raises(WeightsCorrupt, match="mlp.0.weight"):
        Rectifier.from_reference({"rectifier": {"fc.weight": torch.zeros(2, 2)}})
    with pytest.raises(WeightsCorrupt, match="lack"):
        Rectifier.from_reference({"rectifier": {"mlp.0.weight": torch.zeros(4, 4)}})
    with pytest.raises(WeightsCorrupt, match="group rectifier"):
        Rectifier.from_reference({"maniqa": {}})


def test_judge_ranges_and_batches(judge):
    images = [picture(230, 300), picture(250, 224)]
    both = judge.judge(images, features="patches")
    assert both.features.shape == (2, 49, TINY["vision_width"])
    assert ((both.quality >= 1) & (both.quality <= 5)).all()
    torch.testing.assert_close(both.probabilities.sum(1), torch.ones(2))
    singles = torch.cat([judge.judge([i]).quality for i in images])
    torch.testing.assert_close(both.quality, singles)


def test_judge_refuses_a_template_without_a_place():
    with pytest.raises(ConfigError, match="template"):
        FiveLevelCLIP(**TINY, template="a photo")


def test_judge_saves_and_loads(judge, tmp_path):
    judge.save_pretrained(tmp_path)
    again = FiveLevelCLIP.from_pretrained(tmp_path).eval()
    image = picture(230, 300)
    torch.testing.assert_close(again.judge([image]).quality, judge.judge([image]).quality)
    assert again.template == judge.template


def test_judge_reads_its_geometry_from_a_state_dict(judge):
    again = FiveLevelCLIP.from_reference({"clip": judge.clip.state_dict()}, windows=3)
    assert again.config["vision_layers"] == TINY["vision_layers"]
    assert again.judge([picture(300, 400)]).quality.shape == (1,)
    with pytest.raises(WeightsCorrupt, match="ViT"):
        FiveLevelCLIP.from_reference({"clip": {"x": torch.zeros(1)}})


@pytest.mark.parametrize(
    ("size", "expected"),
    [((300, 400), (300, 400)), ((100, 50), (448, 224)), ((800, 1100), (768, 1056)), ((700, 2000), (700, 2000))],
)
def test_fitted_sizes(size, expected):
    assert fitted(Image.new("RGB", size)).size == expected


def test_windows_are_wider_apart_on_large_pictures():
    assert window_places(256, 224) == [(0, 0), (0, 32)]
    assert window_places(1024, 224)[1] == (0, 48)


def test_window_choice():
    assert spread_indices(31, 15) == list(range(0, 30, 2))
    assert spread_indices(4, 15) == [0, 1, 2, 3]
    assert spread_indices(4, 15, repeat=True) == [0] * 15


def test_random_windows_follow_their_generator(judge):
    def draw(seed):
        return judge.read_windows(picture(300, 400), torch.Generator().manual_seed(seed), 3)

    assert draw(0).shape == (3, 3, 224, 224)
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
