"""CLIP-based metrics against transformers and open_clip called directly, and against values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from grefine.errors import WeightsCorrupt
from grefine.scorers.clip import clipscore, load_clip, pickscore
from grefine.scorers.clipiqa import CLIPIQA
from grefine.scorers.hpsv2 import MEAN, STD, HPSv2, view
from lab.world.vocabulary import build_tokenizer

PROMPTS = ["a red ball on grass", "a blue box on the road at night with two white cats and a green tree and a star"]


def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in [(48, 48), (40, 72)]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    tokenizer = build_tokenizer(context=16)
    end = tokenizer.eos_token_id
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": end, "bos_token_id": end - 1,
        "pad_token_id": end,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    path = tmp_path_factory.mktemp("clip")
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(path)
    return path


def direct(folder, texts):
    """What transformers itself says: the matrix of scaled cosines."""
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), CLIPImageProcessor.from_pretrained(folder)
    found = tokenizer(texts, padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    pixels = processor(images=pictures(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        out = model(pixel_values=pixels, input_ids=found["input_ids"], attention_mask=found["attention_mask"])
    return out.logits_per_image, model.logit_scale.exp().detach()


def test_pickscore_is_the_models_own_logit(folder):
    logits, _ = direct(folder, PROMPTS)
    found = pickscore(load_clip(folder, "cpu"))(pictures(), PROMPTS)
    assert [s["pickscore"] for s in found] == pytest.approx(logits.diag().tolist(), abs=1e-4)


def test_clipscore_against_transformers(folder):
    logits, scale = direct(folder, ["A photo depicts " + p for p in PROMPTS])
    expected = (2.5 * (logits / scale).diag().clamp(min=0)).tolist()
    found = clipscore(load_clip(folder, "cpu"))(pictures(), PROMPTS)
    assert [s["clipscore"] for s in found] == pytest.approx(expected, abs=1e-5)


def test_clipiqa_against_transformers(folder):
    logits, _ = direct(folder, ["Good photo.", "Bad photo."])
    found = CLIPIQA(load_clip(folder, "cpu"))(pictures())
    assert [s["clipiqa"] for s in found] == pytest.approx(logits.softmax(-1)[:, 0].tolist(), abs=1e-5)


def test_a_long_prompt_keeps_its_end_mark(folder):
    encoder = load_clip(folder, "cpu")
    found = encoder.tokenizer(PROMPTS[1:], padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    assert found["input_ids"][0, -1] == encoder.tokenizer.eos_token_id


class Vectors:
    """An encoder whose vectors are given, so that a score can be worked out on paper."""

    def images(self, pictures):
        return torch.tensor([[0.6, 0.8]]).repeat(len(pictures), 1)

    def texts(self, texts):
        table = {"Good photo.": [1.0, 0.0], "Bad photo.": [0.0, 1.0], "opposite": [-1.0, 0.0]}
        return torch.tensor([table.get(text.removeprefix("A photo depicts "), [1.0, 0.0]) for text in texts])

    def logit_scale(self):
        return torch.tensor(10.0)


def test_values_by_hand():
    image = pictures()[:1]
    assert clipscore(Vectors())(image, ["same"])[0]["clipscore"] == pytest.approx(2.5 * 0.6)
    assert clipscore(Vectors())(image, ["opposite"])[0]["clipscore"] == 0.0
    assert pickscore(Vectors())(image, ["opposite"])[0]["pickscore"] == pytest.approx(-6.0)
    assert CLIPIQA(Vectors())(image)[0]["clipiqa"] == pytest.approx(1 / (1 + math.exp(2)))


def test_hpsv2_against_open_clip():
    import open_clip
    from open_clip.model import CLIP

    torch.manual_seed(0)
    model = CLIP(
        16,
        {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
        {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    ).eval()
    tokenizer = open_clip.SimpleTokenizer(context_length=12)
    found = HPSv2(model, tokenizer)(pictures(), PROMPTS)
    with torch.no_grad():
        pixels = torch.stack([published_view(p, 32) for p in pictures()])
        image, text, _ = model(pixels, tokenizer(PROMPTS))
    assert [s["hpsv2"] for s in found] == pytest.approx((image * text).sum(-1).tolist(), abs=1e-5)


def published_view(image, side):
    """The published evaluation transform, written once more with torchvision: resize by the longest side, then pad."""
    from torchvision.transforms.v2 import functional as TF  # noqa: N812

    longest = max(image.size)
    height, width = round(image.height * side / longest), round(image.width * side / longest)
    small = TF.resize(image, [height, width], interpolation=TF.InterpolationMode.BICUBIC, antialias=True)
    top, left = (side - height) // 2, (side - width) // 2
    padded = TF.pad(small, [left, top, side - width - left, side - height - top], fill=0)
    return TF.normalize(TF.to_dtype(TF.pil_to_tensor(padded), torch.float32, scale=True), list(MEAN), list(STD))


@pytest.mark.parametrize("size", [(600, 400), (1344, 768), (832, 1216), (224, 224), (224, 100), (100, 37), (2000, 3)])
def test_hpsv2_sees_the_whole_picture_on_black(size):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    found = view(image, 224)
    assert found.shape == (3, 224, 224)
    if min(size) > 3:  # the published code cannot take a side that rounds to nothing
        assert torch.allclose(found, published_view(image, 224), atol=1e-6)


def test_a_foreign_folder_is_named(tmp_path):
    with pytest.raises(WeightsCorrupt, match="no complete transformers CLIP folder"):
        load_clip(tmp_path, "cpu")
