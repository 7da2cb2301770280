"""What the UNet sees under the mask: nothing, what looks bad, or also what a phrase wants changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from components import pipeline
from PIL import Image

from grefine.types import AlignmentMap, PhraseAlignment, QualityMap

PLACE = (slice(8, 56), slice(8, 56))


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def good_everywhere(images):
    return [QualityMap(np.ones((64, 64), np.float32), 0.9) for _ in images]


def wants_change(defect):
    def look(images, prompts):
        region = np.zeros((64, 64), np.float32)
        region[PLACE] = 1.0
        asked = PhraseAlignment(prompts[0].phrases[0], 0.1, 0.9 if defect == "attribute" else 0.1, defect, region)
        return [AlignmentMap(1 - region, 0.3, (asked,)) for _ in images]

    return look


def seen_by_the_unet(defect, **sight):
    pipe, seen = pipeline(unet_traits=sight), []

    def watch(_pipe, _index, _step, tensors):
        seen.append((tensors["masked_image_latents"].clone(), tensors["prompt_embeds"].shape[0]))
        return {}

    out = pipe(
        prompt="a red ball",
        image=picture(),
        quality_map=good_everywhere,
        alignment_map=wants_change(defect),
        config={"guard": False, "guidance_scale": 2.0, "max_area": 1.0, "max_upscale": 1.0},
        restorer="none",
        num_inference_steps=1,
        callback_on_step_end=watch,
        callback_on_step_end_tensor_inputs=["masked_image_latents", "prompt_embeds"],
        generator=torch.Generator().manual_seed(0),
    )
    assert len(out.results[0].plan.regions) == 1
    return seen[0]


@pytest.mark.parametrize("defect", ["noun", "attribute"])
def test_what_a_phrase_wants_changed_is_hidden_unless_the_pipeline_learned_to_see_it(defect):
    pipe = pipeline()
    whole = torch.from_numpy(np.array(picture())).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        clear = pipe.vae.encode(whole).latent_dist.mode() * pipe.vae.config.scaling_factor
    hidden, _ = seen_by_the_unet(defect)
    damage_only, _ = seen_by_the_unet(defect, damage=True)
    shown, _ = seen_by_the_unet(defect, edited=True)
    assert torch.equal(hidden, damage_only), "nothing here is damage"
    assert torch.allclose(shown, clear, atol=1e-4), "a missing thing's place is not filled either"
    assert not torch.allclose(hidden, clear, atol=1e-2)


def test_words_steer_what_is_changed_in_sight():
    assert seen_by_the_unet("attribute", edited=True)[1] == 2, "with and without the prompt"
