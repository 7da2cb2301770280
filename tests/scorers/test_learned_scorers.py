"""Scorers around our networks: mixed sizes, batch against singles, determinism, bad input."""

from __future__ import annotations

import copy

import accelerate
import numpy as np
import pytest
import torch
from PIL import Image

from grefine.errors import ConfigError, ImageError, PromptError
from grefine.models.lar_iqa import LARIQA
from grefine.models.mdiqa import DIMENSIONS, MDIQA, TECHNICAL
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.models.reward import REWARD_MEAN, REWARD_STD, RewardModel, read_beside, semantic_view
from grefine.scorers.imagereward import ImageRewardScorer
from grefine.scorers.lar_iqa import LARIQAScorer
from grefine.scorers.mdiqa import GUARD_SIDE, MDIQAScorer, guard
from grefine.scorers.moe_agiqa import MoEAGIQAScorer
from grefine.scorers.protocol import Scorer
from lab.world.vocabulary import build_tokenizer

TEXT = {
    "vision_width": 24, "vision_depth": 1, "vision_heads": 3, "text_width": 24, "text_depth": 1, "text_heads": 3,
    "text_hidden": 48, "positions": 16, "text_length": 16, "image_size": 32, "patch_size": 8,
}  # fmt: skip
PROMPTS = ["a red ball on grass", "a blue box on the road", "two cats at night", "a star"]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def scorers(tokenizer):
    torch.manual_seed(0)
    small = {"channels": [8, 8, 12, 16], "stem_width": 4}
    mdiqa = MDIQA(
        backbone="test_resnet", backbone_options=small, width=8, heads=2, hidden=16, gate_width=8,
        weight_backbone="test_resnet", weight_backbone_options=small, weight_width=8, local_heads=2, local_hidden=16,
        clip_layers=(1, 1, 1, 1), clip_width=4, clip_head_width=32, clip_tokens=8, clip_size=64,
    )  # fmt: skip
    lar = LARIQA(encoder="test_efficientnet", features=16, expanded=16, reduced=8, whole_size=32, crop_size=48)
    moe = MoEAGIQA(
        crop_size=32, crop_patch=8, crop_width=24, crop_heads=3, taps=(0, 1), vocabulary=len(tokenizer), width=24,
        heads=3, outputs=("quality", "alignment"), crops=5, **TEXT,
    )  # fmt: skip
    reward = RewardModel(vocabulary=len(tokenizer), projection=None, rating_widths=(16, 8), **TEXT)
    return {
        "mdiqa": MDIQAScorer(mdiqa),
        "lar_iqa": LARIQAScorer(lar),
        "moe_agiqa": MoEAGIQAScorer(moe, tokenizer),
        "imagereward": ImageRewardScorer(reward, tokenizer),
    }


def pictures():
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (40, 72), (64, 64), (33, 50)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


NAMES = ("mdiqa", "lar_iqa", "moe_agiqa", "imagereward")


@pytest.mark.parametrize("name", NAMES)
def test_mixed_sizes_and_batch_equals_singles(scorers, name):
    scorer = scorers[name]
    assert isinstance(scorer, Scorer)
    together = scorer(pictures(), PROMPTS)
    assert len(together) == 4
    for index, picture in enumerate(pictures()):
        alone = scorer([picture], PROMPTS[index : index + 1])[0]
        assert list(alone.keys()) == list(together[index].keys())
        for key in alone.keys():  # noqa: SIM118 - Scores is no mapping
            assert alone[key] == pytest.approx(together[index][key], abs=1e-5)
    assert len({round(next(iter(s.values.values())), 7) for s in together}) == 4, "every picture gets its own value"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_call_gives_the_same_values(scorers, name):
    torch.manual_seed(1)
    first = scorers[name](pictures(), PROMPTS)
    torch.manual_seed(2)
    assert first == scorers[name](pictures(), PROMPTS)


def test_names_of_values(scorers):
    picture, prompt = pictures()[:1], PROMPTS[:1]
    assert list(scorers["mdiqa"](picture)[0].keys()) == ["mdiqa.overall", *(f"mdiqa.{d}" for d in DIMENSIONS)]
    assert list(scorers["moe_agiqa"](picture, prompt)[0].keys()) == ["moe_agiqa.quality", "moe_agiqa.alignment"]
    assert list(scorers["lar_iqa"](picture)[0].keys()) == ["lar_iqa"]
    only = MDIQAScorer(scorers["mdiqa"].model, ["sharpness"])(picture)[0]
    assert list(only.keys()) == ["mdiqa.sharpness"]
    with pytest.raises(ConfigError, match="sharpness"):
        MDIQAScorer(scorers["mdiqa"].model, ["sharpnes"])


def test_moe_is_the_mean_over_all_drawn_crops(scorers, tokenizer):
    """Against the plain procedure: one crop after the other, repeated ones included."""
    from grefine.models.mdiqa_blocks import pad_to
    from grefine.models.moe_agiqa import random_offsets
    from grefine.scorers.protocol import tokens

    scorer, image = scorers["moe_agiqa"], pictures()[1]
    model = scorer.model
    padded = np.asarray(pad_to(image, 32)).copy()
    pixels = torch.from_numpy(padded).permute(2, 0, 1).float() / 255
    ids, mask = tokens(tokenizer, PROMPTS[:1], 16, torch.device("cpu"))
    found = []
    with torch.no_grad():
        for top, left in random_offsets(*padded.shape[:2], 32, 5, model.config["seed"]):
            crop = pixels[None, None, :, top : top + 32, left : left + 32]
            found.append(model(crop, semantic_view(image, 32), ids, mask).scores[0, 0, 0])
    assert scorer([image], PROMPTS[:1])[0]["moe_agiqa.quality"] == pytest.approx(float(sum(found) / 5), abs=1e-5)


def test_reward_by_hand(scorers, tokenizer):
    """The reward is the rating of the first token, standardised."""
    from grefine.scorers.protocol import tokens

    scorer, image = scorers["imagereward"], pictures()[0]
    ids, mask = tokens(tokenizer, PROMPTS[:1], 16, torch.device("cpu"))
    with torch.no_grad():
        model = scorer.model
        seen = model.vision(semantic_view(image, 32)).last_hidden_state
        first = read_beside(model.text, ids, mask, seen)[0, 0]
        for layer in model.rating:
            if isinstance(layer, torch.nn.Linear):
                first = layer.weight @ first + layer.bias
    expected = (first.item() - REWARD_MEAN) / REWARD_STD
    assert scorer([image], PROMPTS[:1])[0]["imagereward"] == pytest.approx(expected, abs=1e-5)


def test_float_pictures_are_read_and_wrong_ranges_named(scorers):
    scorer, image = scorers["lar_iqa"], pictures()[0]
    array = np.asarray(image)
    expected = scorer([image])[0]["lar_iqa"]
    assert scorer([array / 255.0])[0]["lar_iqa"] == pytest.approx(expected, abs=1e-6)
    assert scorer([torch.from_numpy(array.copy()).permute(2, 0, 1)])[0]["lar_iqa"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ImageError, match="bring it to 0..1"):
        scorer([array.astype(np.float32)])
    with pytest.raises(ImageError, match="0..1"):
        scorer([np.full((64, 64, 3), np.nan)])


def test_the_guard_shows_mdiqa_no_picture_above_the_size_that_it_knows(scorers):
    model = scorers["mdiqa"].model
    pixels = np.random.default_rng(2).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    large = Image.fromarray(pixels).resize((GUARD_SIDE + 160, GUARD_SIDE + 16), Image.Resampling.BICUBIC)
    width = round(large.width * GUARD_SIDE / large.height)
    small = large.resize((width, GUARD_SIDE), Image.Resampling.BILINEAR)
    shown, known = guard(model)([large, small])
    assert shown.values == pytest.approx(known.values, abs=1e-6)
    assert known.values == pytest.approx(MDIQAScorer(model, TECHNICAL)([small])[0].values, abs=1e-6)


def test_bad_input_is_one_sentence(scorers):
    picture = pictures()[0]
    with pytest.raises(ImageError, match="needs 32 a side"):
        scorers["mdiqa"]([picture.resize((20, 64))])
    with pytest.raises(ImageError, match="list of images"):
        scorers["mdiqa"](picture)
    with pytest.raises(ImageError, match="give PIL images"):
        scorers["lar_iqa"](["cat.png"])
    for bad in (None, [""], ["  "], ["a", "b"], "a ball"):
        with pytest.raises(PromptError) as caught:
            scorers["moe_agiqa"]([picture], bad)
        assert str(caught.value).count(". ") == 0


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_on_another_device_when_a_judge_is_offloaded(scorers, name, monkeypatch):
    """The device "meta" holds no values: mixing it with the CPU fails, and so does reading a score at the very end."""
    # transformers looks at the values of a mask to leave it out where nothing is masked.
    monkeypatch.setattr("transformers.masking_utils._ignore_bidirectional_mask_sdpa", lambda *_: False)
    scorer = copy.deepcopy(scorers[name])
    accelerate.cpu_offload_with_hook(scorer.model, execution_device="meta")
    with pytest.raises(NotImplementedError, match="out of meta tensor"):
        scorer(pictures(), PROMPTS)
