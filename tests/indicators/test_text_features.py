"""Texts are encoded once, looked up by their words, and encoded anew after training."""

from __future__ import annotations

import torch
from PIL import Image
from tiny_clip import clip, tokenizer

from grefine.indicators import encoding
from grefine.indicators.aq_map import AQMap
from grefine.indicators.encoding import TextFeatures


def trained(model):
    with torch.no_grad():
        model.clip.text_projection.neg_()


def test_training_is_noticed_between_calls_and_not_within():
    model = clip()
    features = TextFeatures(model, tokenizer())
    before = features(["a red ball"])
    with features.steady():
        trained(model)
        assert torch.equal(features(["a red ball"]), before)
    assert not torch.allclose(features(["a red ball"]), before), "it was only put off"
    with features.steady():
        assert torch.equal(features(["a red ball"]), features(["a red ball"]))
    assert features._steady == 0


def test_weights_are_looked_at_once_per_call_whatever_the_prompt(monkeypatch):
    looks = []
    own = encoding.fingerprint
    monkeypatch.setattr(encoding, "fingerprint", lambda *modules: looks.append(1) or own(*modules))
    aq = AQMap(clip(), tokenizer())
    for prompt in ("a red ball", ", ".join(["a red ball", "a blue box", "a green house", "a tree", "a star"])):
        looks.clear()
        found = aq([Image.new("RGB", (32, 32))], [prompt])[0]
        assert found.phrases
        assert len(looks) == 1
