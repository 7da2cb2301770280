"""The repositories that the recipes fetch painters from, in their published layout and with random values.

File names, shards, variants, indexes and what their configs say of scales, channels and schedules are the published
ones; widths and depths are not, and of all vocabularies only CLIP's is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from components import alphabet
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from hub import EULER, VOCABULARY, write_tokenizer

from benchmarks.toy_painters import CHAT, PICTURE

SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *PICTURE.values())


def clip_text(projected: bool = False) -> Any:
    ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}  # as published
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(transformers.CLIPTextConfig(**SIZES, **ends, vocab_size=VOCABULARY, projection_dim=16))


def t5(width: int = 16) -> Any:
    size = {"d_model": width, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    return transformers.T5EncoderModel(transformers.T5Config(**size, vocab_size=512, feed_forward_proj="gated-gelu"))


def t5_words() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return transformers.T5Tokenizer(vocab=[*pieces, *((letter, -4.0) for letter in alphabet())])


def qwen_words() -> Any:
    vocabulary = {token: index for index, token in enumerate([*alphabet(), *MARKS])}
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    words = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[], additional_special_tokens=list(MARKS), **ends)
    words.chat_template = CHAT
    return words


def qwen3(kind: Any, layers: int = 2) -> Any:
    rest = {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 512, "max_position_embeddings": 1024}
    return kind(transformers.Qwen3Config(**SIZES | {"num_hidden_layers": layers}, **rest))


def qwen2_5_vl() -> Any:
    rope = {"rope_theta": 1e6, "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}}
    eye = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    marks = {"image_token_id": qwen_words().convert_tokens_to_ids("<|image_pad|>")}
    config = transformers.Qwen2_5_VLConfig(
        text_config=SIZES | {"num_key_value_heads": 2, "vocab_size": 512} | rope,
        vision_config=eye | {"fullatt_block_indexes": [1]},
        **marks,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def vae(channels: int, **others: Any) -> Any:
    """Eight pixels to a latent."""
    return diffusers.AutoencoderKL(**_levels(), latent_channels=channels, **others)


def _levels() -> dict[str, Any]:
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    return blocks | {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2, "layers_per_block": 1}


FLAT = {"use_quant_conv": False, "use_post_quant_conv": False}
SHIFTED = {"use_dynamic_shifting": True, "base_shift": 0.5, "base_image_seq_len": 256, "shift": 1.0}


def flow(**settings: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**settings)


def sd15() -> Any:
    unet = diffusers.UNet2DConditionModel(
        sample_size=64,
        in_channels=9,
        out_channels=4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        cross_attention_dim=16,
    )
    eye = SIZES | {"image_size": 224, "patch_size": 32, "projection_dim": 16}
    checker = transformers.CLIPConfig(text_config=SIZES, vision_config=eye, projection_dim=16)
    return diffusers.StableDiffusionInpaintPipeline(
        vae=vae(4, scaling_factor=0.18215, sample_size=512),
        text_encoder=clip_text(),
        tokenizer=None,
        unet=unet,
        scheduler=diffusers.PNDMScheduler.from_config(EULER),
        safety_checker=StableDiffusionSafetyChecker(checker),
        feature_extractor=transformers.CLIPImageProcessor(),
    ).to(torch.float16)


def sd35() -> Any:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=128,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=192,
        qk_norm="rms_norm",
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=flow(shift=3.0),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609, **FLAT),
        text_encoder=clip_text(True),
        tokenizer=None,
        text_encoder_2=clip_text(True),
        tokenizer_2=None,
        text_encoder_3=t5(32),  # as wide as both encoders of CLIP together
        tokenizer_3=t5_words(),
    )


def flux_fill() -> Any:
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=384,
        out_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    return diffusers.FluxFillPipeline(
        scheduler=flow(**SHIFTED, max_image_seq_len=4096, max_shift=1.15),
        vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159, **FLAT),
        text_encoder=clip_text(),
        tokenizer=None,
        text_encoder_2=t5(),
        tokenizer_2=t5_words(),
        transformer=transformer,
    )


def klein() -> Any:
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=128,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * 16,
        timestep_guidance_channels=256,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=False,
    )
    return diffusers.Flux2KleinPipeline(
        scheduler=flow(**SHIFTED | {"shift": 3.0}, max_image_seq_len=4096, max_shift=1.15),
        vae=diffusers.AutoencoderKLFlux2(**_levels(), latent_channels=32),
        text_encoder=qwen3(transformers.Qwen3ForCausalLM, 28),  # the pipeline reads layers 9, 18 and 27
        tokenizer=qwen_words(),
        transformer=transformer,
        is_distilled=True,
    )


def qwen_image() -> Any:
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        guidance_embeds=False,
        axes_dims_rope=(8, 4, 4),
    )
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    shifted = SHIFTED | {"max_image_seq_len": 8192, "max_shift": 0.9, "shift_terminal": 0.02}
    return diffusers.QwenImagePipeline(
        scheduler=flow(**shifted),
        vae=vae,
        text_encoder=qwen2_5_vl(),
        tokenizer=qwen_words(),
        transformer=transformer,
    )


def z_image() -> Any:
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        norm_eps=1e-5,
        qk_norm=True,
        cap_feat_dim=16,
        rope_theta=256.0,
        t_scale=1000.0,
        axes_dims=[8, 4, 4],
        axes_lens=[1536, 512, 512],
    )
    torch.nn.init.ones_(transformer.x_pad_token)
    torch.nn.init.ones_(transformer.cap_pad_token)
    return diffusers.ZImagePipeline(
        scheduler=flow(shift=3.0),
        vae=vae(16, scaling_factor=0.3611, shift_factor=0.1159, **FLAT),
        text_encoder=qwen3(transformers.Qwen3Model),
        tokenizer=qwen_words(),
        transformer=transformer,
    )


PUBLISHED: Mapping[str, tuple[str, Callable[[], Any], tuple[str, ...]]] = {
    "sd15": ("stable-diffusion-v1-5/stable-diffusion-inpainting", sd15, ("sd-v1-5-inpainting.ckpt",)),
    "sd3.5": (
        "stabilityai/stable-diffusion-3.5-large",
        sd35,
        ("sd3.5_large.safetensors", "text_encoders/t5xxl_fp16.safetensors", "text_encoder/model.fp16.safetensors"),
    ),
    "flux-fill": ("black-forest-labs/FLUX.1-Fill-dev", flux_fill, ("flux1-fill-dev.safetensors", "ae.safetensors")),
    "flux2-klein": ("black-forest-labs/FLUX.2-klein-4B", klein, ("flux-2-klein-4b.safetensors",)),
    "qwen-image": ("Qwen/Qwen-Image", qwen_image, ()),
    "z-image": ("Tongyi-MAI/Z-Image-Turbo", z_image, ("assets/showcase.jpg",)),
}
"""Per recipe its repository, how that is built, and what lies there that nobody asks for."""
SHARDED = {"sd3.5": ("text_encoder_3", "transformer"), "flux-fill": ("text_encoder_2", "transformer")}
SHARDED |= {"qwen-image": ("text_encoder", "transformer"), "z-image": ("text_encoder", "transformer")}
SHARDED |= {"flux2-klein": ("text_encoder",)}
OLD = {"CLIPImageProcessor": "CLIPFeatureExtractor", "T5Tokenizer": "T5TokenizerFast"}
"""Names in published indexes that the installed transformers no longer has."""


def write_painter(root: Path, name: str) -> Path:
    """Write the repository of a recipe's painter below `root`."""
    repository, build, unasked = PUBLISHED[name]
    home = root / repository
    torch.manual_seed(0)
    pipe = build()
    pipe.save_pretrained(home, variant="fp16" if name == "sd15" else None)
    for part in SHARDED.get(name, ()):
        module = getattr(pipe, part)
        for file in (home / part).glob("*.safetensors"):
            file.unlink()
        size = sum(value.numel() * value.element_size() for value in module.parameters())
        module.save_pretrained(home / part, max_shard_size=size // 2)
    index = json.loads((home / "model_index.json").read_text())
    for part, entry in index.items():
        if part.startswith("tokenizer") and entry == [None, None]:
            entry[:] = ["transformers", "CLIPTokenizer"]
            write_tokenizer(home / part, "!" if part == "tokenizer_2" else "<|endoftext|>")
        if isinstance(entry, list):
            entry[1] = OLD.get(entry[1], entry[1])
    (home / "model_index.json").write_text(json.dumps(index))
    for path in ("README.md", *unasked):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(b"Nobody asks for this.")
    return home
