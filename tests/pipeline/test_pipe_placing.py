"""Where parts are placed and in what precision: what diffusers users pass arrives, and the pipeline runs with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from components import pipeline
from diffusers import StableDiffusionXLInpaintPipeline
from test_pipe_exactness import bad_place, picture

from grefine.pipeline import GRefinePipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("placed")
    pipeline().save_pretrained(place)
    return place


def refined(pipe):
    return np.asarray(
        pipe(
            image=picture(),
            quality_map=bad_place,
            guard=False,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
        ).images[0]
    ).astype(int)


@pytest.fixture(scope="module")
def plain(folder):
    return refined(GRefinePipeline.from_pretrained(folder))


@pytest.mark.parametrize("device_map", ["cpu", "balanced"])
def test_device_maps(folder, plain, device_map):
    pipe = GRefinePipeline.from_pretrained(folder, device_map=device_map)
    assert np.abs(refined(pipe) - plain).max() <= 1


def test_a_quantised_unet(folder, plain):
    pytest.importorskip("optimum.quanto", reason="quantisation needs optimum-quanto")
    from diffusers import PipelineQuantizationConfig, QuantoConfig
    from optimum.quanto import QLinear

    config = PipelineQuantizationConfig(quant_mapping={"unet": QuantoConfig(weights_dtype="int8")})
    pipe = GRefinePipeline.from_pretrained(folder, quantization_config=config)
    assert isinstance(pipe.unet.time_embedding.linear_1, QLinear)
    assert 0 < np.abs(refined(pipe) - plain).max() < 60


def test_the_maps_go_to_the_device_of_a_loaded_pipeline():
    """The device "meta" stands for a GPU: nothing is computed there, but it is another device."""
    parts = pipeline().components
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    loaded = StableDiffusionXLInpaintPipeline(**{name: parts[name] for name in names}).to("meta")
    made = GRefinePipeline.from_pipe(loaded, maps="tiny")
    assert made.clip.device.type == made.pq_prompts.device.type == "meta"


def test_a_new_precision_leaves_the_maps_alone():
    made = GRefinePipeline.from_pipe(pipeline(), dtype=torch.bfloat16)
    assert made.unet.dtype == made.vae.dtype == torch.bfloat16
    assert made.clip.dtype == made.pq_prompts.dtype == torch.float32
