"""The quick look at the device says what diffusers' long one says."""

from __future__ import annotations

import torch
from components import pipeline
from diffusers import DiffusionPipeline
from diffusers.hooks import apply_group_offloading

from grefine.refine.loading import common_device


def test_the_quick_look_up_says_what_diffusers_says():
    pipe = pipeline()
    theirs = DiffusionPipeline._execution_device
    assert common_device(pipe.components) == theirs.fget(pipe) == torch.device("cpu")
    pipe.unet.to("meta")
    assert common_device(pipe.components) is None, "a split pipeline is diffusers' to judge"
    assert pipe._execution_device == theirs.fget(pipe)


def test_hooks_leave_the_device_to_diffusers():
    moved, grouped = pipeline(), pipeline()
    moved.enable_model_cpu_offload(device="cpu")
    here = torch.device("cpu")
    apply_group_offloading(grouped.unet, onload_device=here, offload_device=here, offload_type="leaf_level")
    for pipe in (moved, grouped):
        assert common_device(pipe.components) is None
        assert pipe._execution_device == DiffusionPipeline._execution_device.fget(pipe)
