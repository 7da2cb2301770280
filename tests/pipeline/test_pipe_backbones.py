"""Other backbones and loaders: ordinary UNets, LoRAs, half precision, judges as guards, steering, real geometry."""

from __future__ import annotations

import accelerate
import numpy as np
import pytest
import torch
from components import MEASURED, components, controlnet, pipeline
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from ldm_layout import SDXL_BLOCKS
from test_pipe_exactness import bad_place, call, picture
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from grefine.models.finisher import Finisher
from grefine.models.mdiqa import MDIQA
from grefine.refine.denoise import CropBatch, Embeddings, Watch, denoise, latent_multiple
from grefine.types import QualityMap


def test_ordinary_sdxl_unet_runs_both_stages_exactly():
    image = picture()
    refined, result = call(pipeline(channels=4), image, preserve="exact")
    outside = ~result.plan.mask
    assert result.decision.kept == "both"
    assert np.array_equal(np.asarray(refined)[outside], np.asarray(image)[outside])


def test_lora_loads_scales_and_unloads(tmp_path):
    pytest.importorskip("peft")
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    donor = pipeline()
    layers = ["to_q", "to_k", "to_v", "to_out.0"]
    torch.manual_seed(0)
    donor.unet.add_adapter(LoraConfig(r=4, lora_alpha=64, target_modules=layers, init_lora_weights=False))
    type(donor).save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(donor.unet))
    pipe, image = pipeline(), picture()
    plain, _ = call(pipe, image, prompt="a ball", config={"use_aq": False})
    pipe.load_lora_weights(tmp_path)
    with_lora, _ = call(pipe, image, prompt="a ball", config={"use_aq": False})
    silent, _ = call(pipe, image, prompt="a ball", config={"use_aq": False}, cross_attention_kwargs={"scale": 0.0})
    pipe.unload_lora_weights()
    after, _ = call(pipe, image, prompt="a ball", config={"use_aq": False})
    assert not np.array_equal(np.asarray(with_lora), np.asarray(plain))
    assert np.abs(np.asarray(silent, int) - np.asarray(plain, int)).max() <= 1
    assert np.array_equal(np.asarray(after), np.asarray(plain))


def test_half_precision_runs_without_nan():
    pipe = pipeline().to(torch.bfloat16)
    refined, result = call(pipe, picture())
    assert result.decision.kept == "both"
    assert np.asarray(refined).std() > 1


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    small = {"channels": [8, 8, 12, 16], "stem_width": 4}
    return MDIQA(
        backbone="test_resnet", backbone_options=small, width=8, heads=2, hidden=16, gate_width=8,
        weight_backbone="test_resnet", weight_backbone_options=small, weight_width=8, local_heads=2, local_hidden=16,
        clip_layers=(1, 1, 1, 1), clip_width=4, clip_head_width=32, clip_tokens=8, clip_size=64,
    ).eval()  # fmt: skip


def test_guard_uses_the_pipelines_own_judge(judge):
    pipe = pipeline(mdiqa=judge)
    _, result = call(pipe, picture(), guard=True, num_inference_steps=2)
    assert result.decision.guarded, "without a prompt the perceptual axis is all there is"
    assert any(name.startswith("mdiqa.") for name in result.before.values)
    assert set(result.decision.candidates) >= {"original", "repainted"}
    assert result.decision.reason


def test_a_judge_that_steers_does_not_judge(judge):
    pipe = pipeline(mdiqa=judge)
    plain, _ = call(pipe, picture(), num_inference_steps=2)
    steered, result = call(pipe, picture(), guard=True, num_inference_steps=2, guidance={"sharpness": 1.0})
    assert not any(name.startswith("mdiqa.") for name in result.before.values)
    assert not result.decision.guarded
    unguarded, _ = call(pipe, picture(), num_inference_steps=2, guidance={"sharpness": 1.0})
    assert not np.array_equal(np.asarray(unguarded), np.asarray(plain))


class Grounded(DDIMScheduler):
    """Timesteps with values, also where tensors have none."""

    def set_timesteps(self, num_inference_steps, device=None):
        super().set_timesteps(num_inference_steps, device="cpu")


def meta_sdxl(channels):
    """SDXL's published geometry without its 5 GB: parameters that have shapes only."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            in_channels=channels,
            block_out_channels=(320, 640, 1280),
            attention_head_dim=(5, 10, 20),
            addition_time_embed_dim=256,
            transformer_layers_per_block=(1, 2, 10),
            projection_class_embeddings_input_dim=2816,
            cross_attention_dim=2048,
            **SDXL_BLOCKS,
        )
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=1024,
            scaling_factor=0.13025,
        )
        return unet, vae


def meta_encoders():
    """SDXL's two text encoders, shapes only."""
    with torch.device("meta"):
        small = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
        large = CLIPTextConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280
        )
        return {"text_encoder": CLIPTextModel(small), "text_encoder_2": CLIPTextModelWithProjection(large)}


@pytest.mark.parametrize(("channels", "control"), [(9, False), (4, False), (9, True)])
def test_real_sdxl_geometry_on_the_meta_device(channels, control):
    unet, vae = meta_sdxl(channels)
    parts = components() | meta_encoders() | {"unet": unet, "vae": vae, "scheduler": Grounded()}
    if control:
        with torch.device("meta"):
            parts["controlnet"] = ControlNetModel.from_unet(meta_sdxl(4)[0], load_weights_from_unet=False)
    pipe = pipeline(**{name: part for name, part in parts.items() if part is not None})
    pipe._guidance_scale = 5.0
    assert pipe.working_side == 1024
    assert latent_multiple(pipe) == 32
    assert sum(p.numel() for p in unet.parameters()) > 2.5e9

    def ghost(*shape):
        return torch.zeros(shape, device="meta")

    crops = CropBatch(
        images=ghost(1, 3, 1024, 1024),
        masks=ghost(1, 1, 1024, 1024),
        embeddings=Embeddings(ghost(1, 77, 2048), ghost(1, 1280), ghost(1, 77, 2048), ghost(1, 1280)),
        strength=0.5,
        steps=1,
        seeds=[0],
        stage="repaint",
        control=control,
        noise=ghost(1, 4, 128, 128),
    )
    type(pipe)._execution_device = property(lambda self: torch.device("meta"))
    try:
        latents = denoise(pipe, crops, Watch())
    finally:
        del type(pipe)._execution_device
    assert latents.shape == (1, 4, 128, 128)


@pytest.mark.parametrize("stage", ["repaint", "restore"])
def test_nothing_of_a_stage_is_left_on_another_device_when_its_parts_are_offloaded(stage):
    """The device "meta" holds no values: mixing it with the CPU fails, and so does reading the pixels at the end."""
    pipe = pipeline(scheduler=Grounded(), controlnet=controlnet())
    for part in (pipe.vae, pipe.text_encoder, pipe.text_encoder_2, pipe.unet, pipe.controlnet):
        accelerate.cpu_offload_with_hook(part, execution_device="meta")
    maps = bad_place if stage == "repaint" else good_everywhere
    settings = {"gate": False, "restorer": "controlnet-tile"}
    with pytest.raises(NotImplementedError, match="out of meta tensor") as caught:
        pipe(image=picture(), quality_map=maps, guard=False, num_inference_steps=2, config=settings)
    names = [entry.name for entry in caught.traceback]
    assert {"repaint": "repaint_regions", "restore": "restore_pictures"}[stage] in names
    assert names[-1] == "decode"
    if stage == "restore":
        assert pipe.controlnet.device.type == "meta"


def good_everywhere(images):
    return [QualityMap(np.ones((image.height, image.width), np.float32), 0.99) for image in images]


def test_your_own_map_of_alignment():
    from grefine.types import AlignmentMap, Phrase, PhraseAlignment

    region = np.zeros((64, 64), np.float32)
    region[20:40, 20:40] = 1.0

    def missing(images, prompts):
        ball = PhraseAlignment(Phrase("ball", ("a", "ball"), ((0, 1), (2, 6)), 0), 0.1, 0.1, "noun", region)
        return [AlignmentMap(1 - region, 0.1, (ball,)) for _ in images]

    def good(images):
        return [bad_place(images)[0].__class__(np.ones((64, 64), np.float32), 0.99)]

    _, result = call(
        pipeline(calibration=MEASURED | {"p_gate": 0.5}),
        picture(),
        prompt="a ball",
        quality_map=good,
        alignment_map=missing,
        restorer="none",
    )
    assert [r.kind for r in result.plan.regions] == ["noun"]
    assert result.plan.regions[0].prompt == "a ball , a ball"
    assert result.plan.token_weights == ((0, 1, 1.1), (2, 6, 1.1))


def test_a_finisher_finishes_what_is_mended_in_sight_alone():
    torch.manual_seed(0)
    finisher = Finisher(width=8, coarse=8, blocks=1)
    torch.nn.init.normal_(finisher.leave.weight)

    def mended(finisher, **traits):
        parts = pipeline(unet_traits=traits, finisher=finisher)
        return np.asarray(call(parts, picture(), quality_map=bad_place, restorer="none", guard=False)[0])

    assert not np.array_equal(mended(finisher, damage=True), mended(None, damage=True))
    assert np.array_equal(mended(finisher), mended(None)), "over a blank there is nothing to put back"


def test_an_untrained_finisher_changes_nothing():
    source, painted = torch.rand(2, 2, 3, 24, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Finisher(width=8, coarse=8)(source, painted, torch.ones(2, 1, 24, 16)), painted)
