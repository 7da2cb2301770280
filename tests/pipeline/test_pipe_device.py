"""The device is looked up once per call, and again for the next call."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from components import pipeline
from diffusers import DiffusionPipeline
from PIL import Image

from grefine.errors import ImageError


@pytest.fixture
def looked_up(monkeypatch):
    found = []

    def device(self):
        found.append(self)
        return torch.device("cpu")

    monkeypatch.setattr(DiffusionPipeline, "_execution_device", property(device))
    return found


def bad_everywhere(pipe):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    mask = np.zeros((32, 32), np.float32)
    mask[8:24, 8:24] = 1
    return pipe(image=image, prompt="a red ball", mask_image=mask, num_inference_steps=2, guard=False)


def test_once_per_call(looked_up):
    pipe = pipeline()
    result = bad_everywhere(pipe).results[0]
    assert result.decision.kept != "original", "both stages must have run for this to tell anything"
    assert len(looked_up) == 1
    bad_everywhere(pipe)
    assert len(looked_up) == 2, "the pipeline may have moved between two calls"


def test_forgotten_after_a_failure(looked_up):
    pipe = pipeline()
    with pytest.raises(ImageError):
        pipe(image=None)
    pipe.encode_prompt("a red ball")
    assert len(looked_up) == 2
