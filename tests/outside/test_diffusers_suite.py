# ruff: noqa: E402
"""diffusers' own pipeline testers against GRefinePipeline, from a diffusers source tree named by DIFFUSERS_SOURCE.

None of their files is copied. The gate and the guard are off in the inputs, so that every test denoises.
"""

from __future__ import annotations

import os
import sys

import pytest

SOURCE = os.environ.get("DIFFUSERS_SOURCE", "")
if not SOURCE:
    pytest.skip("set DIFFUSERS_SOURCE to a diffusers source tree", allow_module_level=True)
sys.path.insert(0, SOURCE)

import diffusers
import numpy as np
from PIL import Image

from grefine.pipeline import GRefinePipeline

# Their visitor looks the class up by name among diffusers' own pipelines.
diffusers.pipelines.GRefinePipeline = GRefinePipeline

from tests.pipelines.pipeline_params import (
    TEXT_GUIDED_IMAGE_INPAINTING_BATCH_PARAMS,
    TEXT_GUIDED_IMAGE_INPAINTING_PARAMS,
)
from tests.pipelines.testing_utils import (
    BasePipelineTesterConfig,
    LoraTesterMixin,
    MemoryTesterMixin,
    PipelineTesterMixin,
    UNetLoraTesterMixin,
)

sys.path.insert(1, os.path.join(os.path.dirname(__file__), ".."))
from components import components

pytestmark = pytest.mark.slow


class Refiner(BasePipelineTesterConfig):
    pipeline_class = GRefinePipeline
    required_input_params_in_call_signature = TEXT_GUIDED_IMAGE_INPAINTING_PARAMS
    batch_input_params = TEXT_GUIDED_IMAGE_INPAINTING_BATCH_PARAMS
    output_shape = (3, 64, 64)

    def get_dummy_components(self):
        return components()

    def get_dummy_inputs(self):
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        mask[16:56, 8:48] = 255
        return {
            "prompt": "a red ball on the grass",
            "image": Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC),
            "mask_image": Image.fromarray(mask),
            "generator": self.get_generator(0),
            "num_inference_steps": 4,
            "guidance_scale": 6.0,
            "strength": 0.8,
            "config": {"gate": False, "guard": False, "use_aq": False},
            "output_type": "pt",
        }


class TestPipeline(Refiner, PipelineTesterMixin):
    pass


class TestMemory(Refiner, MemoryTesterMixin):
    pass


class TestLora(Refiner, LoraTesterMixin):
    pass


class TestUNetLora(Refiner, UNetLoraTesterMixin):
    pass
