"""LAR-IQA against the published code's numbers, and its own promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_weights import golden_files, load_golden, reference_image, reference_state, reference_tensor
from PIL import Image

from grefine.errors import ConfigError, WeightsCorrupt
from grefine.models.lar_iqa import LARIQA, KANLayer, bspline_bases, centre_crop, convert
from grefine.scorers.lar_iqa import LARIQAScorer

FILES = golden_files("lar_iqa_*.json")
TINY = {
    "encoder": "test_efficientnet",
    "features": 24,
    "expanded": 32,
    "reduced": 16,
    "whole_size": 64,
    "crop_size": 48,
}


def adjusted_state(golden):
    state = reference_state(golden["shapes"], golden["salt"])
    adjust = golden["adjust"]
    for key, value in state.items():
        if value.ndim == 4:
            state[key] = (value * np.float32(adjust["ndim4"])).astype(np.float32)
        if key.endswith("spline_scaler"):
            state[key] = (value * np.float32(adjust["spline_scaler"])).astype(np.float32)
    computed = golden.get("computed_buffers", {})
    for key, shape in computed.items():
        if isinstance(shape, list) and key != "row":
            state[key] = np.tile(np.float32(computed["row"]), (shape[0], 1))
    return state


@pytest.fixture(scope="module", params=FILES, ids=lambda p: p.stem)
def reference(request):
    golden = load_golden(request.param)
    return LARIQA.from_reference({"model": adjusted_state(golden)}), golden


def same_summary(ours, known, tolerance, what):
    assert list(ours.shape) == known["shape"], what
    scale = max(1.0, known["abs_max"])
    np.testing.assert_allclose(ours.flatten()[:8], known["first8"], atol=tolerance * scale, err_msg=what)
    for name, value in (("mean", ours.mean()), ("std", ours.std(correction=0)), ("abs_max", ours.abs().max())):
        assert value.item() == pytest.approx(known[name], abs=tolerance * scale), f"{what} {name}"


def watch(model):
    """Keep the outputs that the fixture knows, by its names."""
    found, parts = {}, {}
    for theirs, branch in (("authentic", model.authentic), ("syntetic", model.synthetic)):
        for name in ("conv_stem", "bn1", "global_pool", "conv_head", "act2", "classifier"):
            parts[f"{theirs}.{name}"] = getattr(branch, name)
        parts |= {f"{theirs}.blocks.{i}": block for i, block in enumerate(branch.blocks)}
    for theirs, head in (("aut", model.authentic_head), ("syn", model.synthetic_head)):
        parts |= (
            {f"{theirs}_dw": head}
            if isinstance(head, KANLayer)
            else {f"{theirs}_up": head[1], f"{theirs}_dw": head[3]}
        )
    parts["head"] = model.head
    for name, part in parts.items():
        part.register_forward_hook(lambda _m, _i, out, n=name: found.__setitem__(n, out.clone()))
    return found


def test_parity_of_views(reference):
    model, golden = reference
    for name, known in golden["inputs"].items():
        image = Image.fromarray(reference_image(golden["salt"], *known["reference_image"]))
        for view, key in zip(model.views(image, known["color_space"]), ("authentic", "synthetic"), strict=True):
            # Two of 100,000 LAB values may differ by one level from OpenCV's table.
            same_summary(view, known[key], 1e-4, f"{name} {key}")
            middle = view.shape[2] // 2
            row = view[0, 0, middle, middle : middle + 8]
            np.testing.assert_allclose(row, known[key]["centre_row_first8"], atol=1e-4, err_msg=f"{name} {key}")


def check_scores(model, golden, cases):
    found = watch(model)
    for name in cases:
        known, source = golden["outputs"][name], golden["inputs"][name]
        image = Image.fromarray(reference_image(golden["salt"], *source["reference_image"]))
        found.clear()
        with torch.no_grad():
            score = LARIQAScorer(model, source["color_space"])([image])[0]["lar_iqa"]
        assert score == pytest.approx(known["score"], abs=golden["tolerance"]), name
        for part, summary in known["intermediates"].items():
            if part.endswith("bases_sum"):
                head = {"aut_dw": "authentic", "syn_dw": "syntetic"}[part.split(".")[0]]
                layer = {"aut_dw": model.authentic_head, "syn_dw": model.synthetic_head}[part.split(".")[0]]
                bases = bspline_bases(found[f"{head}.classifier"], layer.grid, layer.order)
                same_summary(bases.sum(-1), summary, 2e-4, f"{name} {part}")
            else:
                same_summary(found[part], summary, 2e-4, f"{name} {part}")


def test_parity_of_scores(reference):
    """Two cases in every run; the others are marked slow."""
    model, golden = reference
    check_scores(
        model, golden, [n for n in golden["inputs"] if n in ("pad_RGB", "pad_LAB")] or list(golden["inputs"])[:2]
    )


@pytest.mark.slow
def test_parity_of_all_scores(reference):
    model, golden = reference
    check_scores(model, golden, golden["inputs"])


@pytest.mark.parametrize("path", golden_files("lar_iqa_kan*.json"), ids=lambda p: p.stem)
def test_parity_of_one_kan_layer(path):
    golden = load_golden(path)
    unit = golden["kan_unit"]
    outputs, inputs = unit["shapes"]["unit.base_weight"]
    layer = KANLayer(inputs, outputs)
    for name in ("base_weight", "spline_weight", "spline_scaler"):
        key = f"unit.{name}"
        value = torch.from_numpy(reference_tensor(key, unit["shapes"][key], golden["salt"]))
        getattr(layer, name).data = value * (golden["adjust"]["spline_scaler"] if name == "spline_scaler" else 1)
    x = torch.tensor(unit["x"])
    np.testing.assert_allclose(bspline_bases(x, layer.grid, 3), unit["bases"], atol=1e-6)
    np.testing.assert_allclose(layer(x).detach(), unit["y"], atol=1e-4, rtol=1e-5)


def test_fresh_kan_grid_is_the_published_one():
    row = load_golden(golden_files("lar_iqa_kan*.json")[0])["computed_buffers"]["row"]
    np.testing.assert_allclose(KANLayer(3, 2).grid, np.tile(np.float32(row), (3, 1)), atol=1e-6)


def test_a_stored_grid_is_used():
    layer = KANLayer(2, 1)
    x = torch.tensor([[0.1, -0.4]])
    before = layer(x)
    state = layer.state_dict()
    state["grid"] = state["grid"] * 1.3
    layer.load_state_dict(state)
    assert not torch.allclose(layer(x), before)


def test_colours_of_known_pixels():
    """Worked by hand from the whole-number formulas."""
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [255, 255, 255], [0, 0, 0], [10, 20, 30]]], dtype=np.uint8)
    np.testing.assert_array_equal(
        convert(pixels, "HSV")[0, :4], [[0, 255, 255], [60, 255, 255], [0, 0, 255], [0, 0, 0]]
    )
    np.testing.assert_array_equal(
        convert(pixels, "YUV")[0, :4], [[76, 91, 255], [150, 54, 0], [255, 128, 128], [0, 128, 128]]
    )
    np.testing.assert_array_equal(convert(pixels, "LAB")[0, 2:4], [[255, 128, 128], [0, 128, 128]])
    np.testing.assert_array_equal(convert(pixels, "RGB"), pixels)


def test_crop_rounds_half_to_even_and_pads_black():
    image = Image.fromarray(np.arange(13 * 21 * 3, dtype=np.uint8).reshape(13, 21, 3))
    cut = np.asarray(centre_crop(image, 8))
    np.testing.assert_array_equal(cut, np.asarray(image)[2:10, 6:14])
    padded = np.asarray(centre_crop(image, 16))
    assert padded.shape == (16, 16, 3)
    filled = [row.any() for row in padded]
    assert filled == [False] + [True] * 13 + [False] * 2


@pytest.mark.parametrize("head", ["mlp", "kan"])
def test_tiny_sizes_are_the_same_class(head, tmp_path):
    torch.manual_seed(0)
    model = LARIQA(**TINY, branch_head=head, color_space="YUV").eval()
    images = [Image.fromarray(reference_image("lar", *size)) for size in ((64, 64), (40, 90))]
    scores = [found["lar_iqa"] for found in LARIQAScorer(model)(images)]
    assert LARIQAScorer(model)(images[1:])[0]["lar_iqa"] == pytest.approx(scores[1])
    model.save_pretrained(tmp_path)
    again = LARIQAScorer(LARIQA.from_pretrained(tmp_path))(images)
    assert [found["lar_iqa"] for found in again] == pytest.approx(scores)
    assert scores[0] != scores[1]


def test_bad_use_is_one_sentence():
    with pytest.raises(ConfigError, match="mlp or kan"):
        LARIQA(**TINY, branch_head="mpl")
    with pytest.raises(ConfigError, match="No colour space 'CMYK'"):
        LARIQA(**TINY, color_space="CMYK").views(Image.new("RGB", (64, 64)))
    with pytest.raises(WeightsCorrupt, match="groups model; given: encoder"):
        LARIQA.from_reference({"encoder": {}})
    with pytest.raises(WeightsCorrupt, match="geometry"):
        LARIQA.from_reference({"model": LARIQA(**TINY).state_dict()}, **(TINY | {"reduced": 8}))
