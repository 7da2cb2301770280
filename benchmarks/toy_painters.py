"""Tiny random pipelines of every family of the table, built without any hub: the real classes, at toy widths."""

from typing import Any

import diffusers
import tokenizers
import torch
import transformers
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

WORDS = "a the red blue ball cone box on grass snow add make restore this place picture dotted bad user assistant"
CHAT = (
    "{% for m in messages %}{{ m['role'] }} "
    "{{ m['content'] if m['content'] is string else m['content'][0]['text'] }} {% endfor %}"
)
FEW = {"max_sequence_length": 48}


def words(template: str | None = None, **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words; `special` are tokens that a processor asks for by attribute."""
    names = ["<pad>", "<bos>", "<eos>", "<unk>", *WORDS.split(), *special.values()]
    made = tokenizers.Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    known = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=77, extra_special_tokens=special or None, **known
    )
    fast.chat_template = template
    return fast


def vae(channels: int = 4, **others) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8],
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        **others,
    )


def flux_vae() -> AutoencoderKL:
    """One level, so that a cell is two pixels."""
    return AutoencoderKL(
        block_out_channels=(4,),
        latent_channels=2,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    )


def clip(projected: bool = False) -> Any:
    config = transformers.CLIPTextConfig(
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=3,
        vocab_size=64,
        projection_dim=32,
    )
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config)


def t5() -> Any:
    return transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    )


def qwen3(kind: Any = None) -> Any:
    config = transformers.Qwen3Config(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=64,
        max_position_embeddings=512,
        head_dim=8,
    )
    return (kind or transformers.Qwen3Model)(config)


def qwen2_5_vl() -> Any:
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = size | {"num_key_value_heads": 2, "vocab_size": 64, "rope_theta": 1e6}
    text["rope_scaling"] = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision | {"fullatt_block_indexes": [1]},
        hidden_size=16,
        vocab_size=64,
        image_token_id=words(**PICTURE).convert_tokens_to_ids("<|image_pad|>"),
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config).eval()


PICTURE = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}


def unet(channels: int = 9, **others) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=32,
        in_channels=channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        **{"cross_attention_dim": 32, **others},
    )


def flow() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler()


def sd15() -> Any:
    return diffusers.StableDiffusionInpaintPipeline(
        vae=vae(),
        text_encoder=clip(),
        tokenizer=words(),
        unet=unet(),
        scheduler=diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    size = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "cross_attention_dim": 64}
    return diffusers.StableDiffusionXLInpaintPipeline(
        vae=vae(),
        text_encoder=clip(),
        text_encoder_2=clip(True),
        tokenizer=words(),
        tokenizer_2=words(),
        unet=unet(**size, projection_class_embeddings_input_dim=6 * 8 + 32, transformer_layers_per_block=(1, 1)),
        scheduler=diffusers.EulerDiscreteScheduler(),
    )


def sd3() -> Any:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=32,
        patch_size=1,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=64,
    )
    return diffusers.StableDiffusion3InpaintPipeline(
        transformer=transformer,
        scheduler=flow(),
        vae=vae(16, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip(True),
        tokenizer=words(),
        text_encoder_2=clip(True),
        tokenizer_2=words(),
        text_encoder_3=t5(),
        tokenizer_3=words(),
    )


def flux_parts(channels: int = 8, **others) -> dict:
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=channels,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
        **others,
    )
    return {
        "scheduler": flow(),
        "vae": flux_vae(),
        "text_encoder": clip(),
        "tokenizer": words(),
        "text_encoder_2": t5(),
        "tokenizer_2": words(),
        "transformer": transformer,
    }


def flux() -> Any:
    return diffusers.FluxInpaintPipeline(**flux_parts())


def flux_fill() -> Any:
    return diffusers.FluxFillPipeline(**flux_parts(20, out_channels=8))


def kontext() -> Any:
    return diffusers.FluxKontextInpaintPipeline(**flux_parts())


def klein() -> Any:
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        timestep_guidance_channels=256,
        axes_dims_rope=[4, 4, 4, 4],
        guidance_embeds=False,
    )
    vae = diffusers.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(4,),
        latent_channels=1,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return diffusers.Flux2KleinInpaintPipeline(
        scheduler=flow(),
        vae=vae,
        text_encoder=qwen3(transformers.Qwen3ForCausalLM),
        tokenizer=words(CHAT),
        transformer=transformer,
        is_distilled=True,
    )


def qwen_parts() -> dict:
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        guidance_embeds=False,
        axes_dims_rope=(8, 4, 4),
    )
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return {"scheduler": flow(), "vae": vae, "text_encoder": qwen2_5_vl(), "transformer": transformer}


def qwen() -> Any:
    return diffusers.QwenImageInpaintPipeline(**qwen_parts(), tokenizer=words())


def qwen_edit() -> Any:
    tokenizer = words(CHAT, **PICTURE)
    processor = transformers.Qwen2VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=28 * 28),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(),
        chat_template=CHAT,
    )
    return diffusers.QwenImageEditInpaintPipeline(**qwen_parts(), tokenizer=tokenizer, processor=processor)


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
        axes_lens=[256, 128, 128],
    )
    with torch.no_grad():
        for pad in (transformer.x_pad_token, transformer.cap_pad_token):
            pad.copy_(torch.ones_like(pad))
    return diffusers.ZImageInpaintPipeline(
        scheduler=flow(),
        vae=vae(16, scaling_factor=0.36, shift_factor=0.11),
        text_encoder=qwen3(),
        tokenizer=words(CHAT),
        transformer=transformer,
    )


def chroma() -> Any:
    transformer = diffusers.ChromaTransformer2DModel(
        patch_size=1,
        in_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=[4, 4, 8],
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    transformer.register_to_config(guidance_embeds=False)  # as the published config.json has it
    return diffusers.ChromaInpaintPipeline(
        scheduler=flow(), vae=flux_vae(), text_encoder=t5(), tokenizer=words(), transformer=transformer
    )


ALL = {
    "sd15": (sd15, {}),
    "sdxl": (sdxl, {}),
    "sd3": (sd3, FEW),
    "flux": (flux, FEW),
    "flux-fill": (flux_fill, FEW),
    "flux-kontext": (kontext, FEW),
    "flux2-klein": (klein, FEW | {"text_encoder_out_layers": [1]}),
    "qwen-image": (qwen, FEW),
    "qwen-image-edit": (qwen_edit, {}),
    "z-image": (z_image, FEW),
    "chroma": (chroma, FEW),
}
"""Per family how it is built, and what its tiny encoders need to be told."""


def build(name: str) -> tuple[Any, dict[str, Any]]:
    """Return a silent pipeline of a family, always the same, and the arguments of its calls."""
    torch.manual_seed(0)
    pipe = ALL[name][0]()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()  # as from_pretrained leaves them: no dropout
    pipe.set_progress_bar_config(disable=True)
    return pipe, dict(ALL[name][1])
