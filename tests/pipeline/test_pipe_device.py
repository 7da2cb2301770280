"""The device is looked up once per call, and again for the next call."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from components import pipeline
from diffusers import DiffusionPipeline
from diffusers.hooks import apply_group_offloading
from PIL import Image

from grefine.errors import ImageError
from grefine.refine import device


@pytest.fixture
def looked_up(monkeypatch):
    found = []

    def look_up(components):
        found.append(components)
        return torch.device("cpu")

    monkeypatch.setattr(device, "common_device", look_up)
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


def test_the_quick_look_up_says_what_diffusers_says():
    pipe = pipeline()
    theirs = DiffusionPipeline._execution_device
    assert device.common_device(pipe.components) == theirs.fget(pipe) == torch.device("cpu")
    pipe.unet.to("meta")
    assert device.common_device(pipe.components) is None, "a split pipeline is diffusers' to judge"
    assert pipe._execution_device == theirs.fget(pipe)


def test_hooks_leave_the_device_to_diffusers():
    moved, grouped = pipeline(), pipeline()
    moved.enable_model_cpu_offload(device="cpu")
    here = torch.device("cpu")
    apply_group_offloading(grouped.unet, onload_device=here, offload_device=here, offload_type="leaf_level")
    for pipe in (moved, grouped):
        assert device.common_device(pipe.components) is None
        assert pipe._execution_device == DiffusionPipeline._execution_device.fget(pipe)
