"""PQ-Map and the text maps against what the released code computes, value by value.

The fixtures say everything: salt, geometry, images, texts. Set GREFINE_GOLDEN to a folder of others of the same form.
Full-size ones need the published prompt embeddings (`pq_embeddings.safetensors` in the folder GREFINE_DATA).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_weights import golden_files, load_golden, reference_image, reference_state
from PIL import Image

from grefine.indicators.encoding import encode_images, factor_logits, min_max, plain
from grefine.indicators.grids import GridMap
from grefine.indicators.pq_map import PQMap
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import FACTORS

PIXELS = {"abs": 1e-4}
LOGITS = {"abs": 1e-4}
COSINES = {"abs": 1e-5}
DRAWN = {"abs": 5e-4}


def cases():
    for path in golden_files("pq_map*.json"):
        for form in ("reduced", "full"):
            marks = [pytest.mark.slow, pytest.mark.weights] if form == "full" else []
            if form in load_golden(path):
                yield pytest.param((path, form), id=f"{path.stem}-{form}", marks=marks)


class Reference:
    """The weights of one fixture, drawn again, and PQ-Map over them."""

    def __init__(self, path: Path, form: str) -> None:
        golden = load_golden(path)
        self.salt, self.golden, self.alpha = golden["salt"], golden[form], golden["format"]["alpha"]
        model = self.golden["model"]
        self.geometry = {"vision_heads": model["heads_vision"], "text_heads": model["transformer_heads"]}
        skeleton = ClipSurgery(
            embed_dim=model["embed_dim"],
            image_size=model["image_resolution"],
            patch_size=model["vision_patch_size"],
            vision_width=model["vision_width"],
            vision_layers=model["vision_layers"],
            text_width=model["transformer_width"],
            text_layers=model["transformer_layers"],
            context_length=model["context_length"],
            vocab_size=model["vocab_size"],
            eos_token_id=model["vocab_size"] - 1,
            **self.geometry,
        )
        shapes = {key: tuple(value.shape) for key, value in skeleton.clip.state_dict().items()}
        assert len(shapes) == model["n_tensors"]
        self.groups = {"clip": reference_state(shapes, self.salt), "prompts": self.prompts()}
        self.pq = PQMap.from_reference(self.groups, geometry=self.geometry)

    def prompts(self):
        if isinstance(self.golden["embeddings"], dict):
            return reference_state(self.golden["embeddings"]["shapes"], self.salt)
        folder = os.environ.get("GREFINE_DATA")
        if not folder:
            pytest.skip("GREFINE_DATA is not set: the published prompt embeddings are not at hand")
        from safetensors.numpy import load_file

        return load_file(Path(folder) / "pq_embeddings.safetensors")

    def image(self, entry):
        return Image.fromarray(reference_image(self.salt, entry["height"], entry["width"]))

    def images(self):
        return [(entry, self.image(entry)) for entry in self.golden["images"]]

    def rebuilt(self, **options) -> PQMap:
        return PQMap.from_reference(self.groups, geometry=self.geometry, readings=options)

    def texts(self) -> torch.Tensor:
        rows, length = self.golden["token_texts"]["ids"], self.golden["model"]["context_length"]
        return torch.tensor([row + [0] * (length - len(row)) for row in rows])


@pytest.fixture(scope="module", params=list(cases()))
def reference(request):
    return Reference(*request.param)


def statistics(values, golden, **tolerance):
    values = np.asarray(values, dtype=np.float64)
    found = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()}
    assert found == {key: pytest.approx(golden[key], **tolerance) for key in found}


def pooled(values):
    return F.adaptive_avg_pool2d(torch.from_numpy(np.asarray(values, dtype=np.float32))[None], 8)[0].numpy()


def close(found, golden, **tolerance):
    found = np.asarray(found, dtype=np.float64)
    golden = np.asarray(golden, dtype=np.float64)
    assert found.shape == golden.shape
    assert np.abs(found - golden).max() <= tolerance["abs"]


def test_parity_prompts(reference):
    features = reference.pq.text_features()
    for row, factor in zip(features, FACTORS, strict=True):
        golden = reference.golden["text_features"][factor]
        close(row.norm(dim=-1), golden["norm"], abs=1e-3)
        close(row[0, :8], golden["good_first8"], **LOGITS)
        close(row[1, :8], golden["bad_first8"], **LOGITS)


def test_parity_pixels(reference):
    for entry, image in reference.images():
        pixels = reference.pq.clip.preprocess_pil([image])[0]
        close(pixels.mean(dim=(1, 2)), entry["input"]["mean_per_channel"], abs=1e-5)
        close(pixels[:, 0, :4], entry["input"]["first_row_first4_per_channel"], abs=1e-5)


def test_parity_image_features(reference):
    for entry, image in reference.images():
        features, golden = reference.pq.encode([image]).whole[0], entry["image_features"]
        assert list(features.shape) == golden["shape"]
        close(features[0, :8], golden["cls_first8"], **LOGITS)
        close(features[1, :8], golden["token0_first8"], **LOGITS)
        close(features[-1, :8], golden["last_token_first8"], **LOGITS)
        statistics(features, golden, **LOGITS)


def test_parity_scores_and_logits(reference):
    for entry, image in reference.images():
        golden = entry["pq"]
        logits = factor_logits(reference.pq.encode([image]).whole, reference.pq.text_features(), "token")[0]
        for column, factor in enumerate(FACTORS):
            close(logits[0, column], golden["logits_good_bad"][factor], **LOGITS)
        statistics(logits[1:, 0, 0], golden["raw_token_logits_good_stats"], **LOGITS)
        statistics(logits[1:, 0, 1], golden["raw_token_logits_bad_stats"], **LOGITS)
        result = reference.pq([image])[0]
        assert dict(result.factors) == pytest.approx(golden["p_factor"], **LOGITS)
        assert result.score == pytest.approx(golden["p_multi_per_factor_alpha_default"], rel=1e-3)


def test_parity_of_every_way_to_score(reference):
    means, bounds = reference.alpha["agin_mean"], reference.alpha["user_bounds_default"]
    ways = {
        "p_single": {"p_mode": "single"},
        "p_multi_per_factor_alpha_default": {"alpha": means, "bounds": bounds},
        "p_multi_per_factor_alpha_unit_bounds": {"alpha": means, "bounds": (1.0, 1.0, 1.0)},
        "p_multi_upstream_alpha_0.935_for_all": {"alpha": [means[0] * bounds[0]] * 3, "bounds": (1.0, 1.0, 1.0)},
    }
    entry, image = reference.images()[-1]
    for name, options in ways.items():
        assert reference.rebuilt(**options)([image])[0].score == pytest.approx(entry["pq"][name], rel=1e-3), name


def test_parity_maps(reference):
    for entry, image in reference.images():
        golden, values = entry["pq"], reference.pq([image])[0].values
        height, width = entry["height"], entry["width"]
        assert values.shape == (height, width)
        logits = factor_logits(reference.pq.encode([image]).whole, reference.pq.text_features(), "token")
        grid = min_max(logits[0, 1:, 0, 0].reshape(reference.pq.clip.grid)).numpy()
        close(grid, golden["grid_minmax"], **PIXELS)
        statistics(values, golden["map_hw_stats"], **PIXELS)
        close(pooled(values), golden["map_hw_pool8"], **PIXELS)
        close(values[[0, 0, -1, -1], [0, -1, 0, -1]], golden["map_hw_corners"], **PIXELS)
        # The released script mixes up width and height; ours never does, but the numbers are the same grid's.
        literal = golden["upstream_literal_map"]
        turned = GridMap((((0, 0, height, width), grid),), (height, width)).draw()
        assert list(turned.shape) == literal["shape"]
        statistics(turned, literal, **PIXELS)
        close(pooled(turned), literal["pool8"], **PIXELS)


def test_parity_channel_norm(reference):
    pq = reference.rebuilt(feature_norm="channel")
    for entry, image in reference.images():
        golden, result = entry["pq_variant_channel_norm"], pq([image])[0]
        logits = factor_logits(pq.encode([image]).whole, pq.text_features(), "channel")[0]
        for column, factor in enumerate(FACTORS):
            close(logits[0, column], golden["logits_good_bad"][factor], **LOGITS)
        assert dict(result.factors) == pytest.approx(golden["p_factor"], **LOGITS)
        grid = min_max(logits[1:, 0, 0].reshape(pq.clip.grid))
        statistics(grid, golden["grid_minmax_stats"], **PIXELS)
        close(pooled(result.values), golden["map_hw_pool8"], **PIXELS)


def test_parity_texts(reference):
    with torch.no_grad():
        features = F.normalize(reference.pq.clip(ids=reference.texts()), dim=-1)
    golden = reference.golden["token_texts"]
    close(features[:, :8], golden["features_first8"], **COSINES)
    close(features @ features[0], golden["cosine_to_empty"], **COSINES)


@pytest.mark.parametrize("method", ["plain", "minus_empty"])
def test_parity_text_maps(reference, method):
    clip = reference.pq.clip
    with torch.no_grad():
        texts = clip(ids=reference.texts())
    for entry, image in reference.images():
        encoding = encode_images(clip, [image], tiles=1)
        golden = entry["aq"][method]
        if method == "plain":
            values = plain(encoding.whole, texts[1:])[0]
        else:
            values = (plain(encoding.whole, texts[1:]) - plain(encoding.whole, texts[:1]))[0]
        close(values[0], golden["cls"], **COSINES)
        close(values[1:, 0].reshape(clip.grid), golden["grid_raw_first_text"], **COSINES)
        for column in range(values.shape[1]):
            drawn = encoding.grid_map(0, [values[1:, column]], "bilinear").stretched().draw()
            statistics(values[1:, column], golden["token_stats"][column], **COSINES)
            statistics(drawn, golden["map_hw_stats"][column], **DRAWN)
            close(pooled(drawn), golden["map_hw_pool8"][column], **DRAWN)
