"""Tiny pipelines of real components with random weights, the same for the same seed, shared by tests."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts

WORDS = ("a", "the", "red", "blue", "green", "ball", "box", "house", "tree", "star", "on", "in", "grass", "snow")
CHANNELS = (32, 64)


def alphabet() -> list[str]:
    """One character per byte, as CLIP's byte-level BPE writes them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    table = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [table[b] for b in range(256)]


def tokenizer(length: int = 32) -> CLIPTokenizer:
    """A byte-level BPE in which each of a few words is one token."""
    letters = alphabet()
    tokens = letters + [f"{c}</w>" for c in letters]
    merges: list[str] = []
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            left, right = pieces[-2], pieces[-1]
            if f"{left} {right}" not in merges:
                merges.append(f"{left} {right}")
                tokens.append(left + right)
            pieces[-2:] = [left + right]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    pairs = [tuple(merge.split()) for merge in merges]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=pairs, model_max_length=length)


def text_config(vocab: int, width: int, length: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=length,
        bos_token_id=vocab - 2,
        eos_token_id=vocab - 1,
        pad_token_id=vocab - 1,
    )


def unet(channels: int = 9, seed: int = 0, cross: int = 64) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + 32,
        cross_attention_dim=cross,
        norm_num_groups=8,
    ).eval()


def controlnet(seed: int = 5) -> ControlNetModel:
    net = ControlNetModel.from_unet(unet(4, seed), conditioning_embedding_out_channels=(8, 16, 16))
    torch.manual_seed(seed)
    for block in [*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out]:
        torch.nn.init.normal_(block.weight, std=0.05)
    return net.eval()


def vae(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(16, 32, 32),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        force_upcast=False,
    ).eval()


def clip(seed: int = 0, vocab: int | None = None, length: int = 32) -> ClipSurgery:
    torch.manual_seed(seed)
    return ClipSurgery(
        embed_dim=32,
        image_size=32,
        patch_size=8,
        vision_width=32,
        vision_layers=2,
        vision_heads=2,
        text_width=32,
        text_layers=2,
        text_heads=2,
        context_length=length,
        vocab_size=vocab or len(tokenizer()),
        eos_token_id=(vocab or len(tokenizer())) - 1,
        stem="conv",
        surgery_layers=2,
    ).eval()


def components(channels: int = 9, seed: int = 0, **others) -> dict:
    """Everything that `GRefinePipeline(**components())` takes; optional parts are None unless given."""
    words = tokenizer()
    vocab = len(words)
    torch.manual_seed(seed)
    first = CLIPTextModel(text_config(vocab, 32, 32)).eval()
    second = CLIPTextModelWithProjection(text_config(vocab, 32, 32)).eval()
    looking = clip(seed)
    torch.manual_seed(seed + 1)
    prompts = PQPrompts.from_clip(looking, words, n_ctx=4).eval()
    return {
        "vae": vae(seed),
        "text_encoder": first,
        "text_encoder_2": second,
        "tokenizer": words,
        "tokenizer_2": tokenizer(),
        "unet": unet(channels, seed),
        "scheduler": DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1),
        "clip": looking,
        "clip_tokenizer": tokenizer(),
        "pq_prompts": prompts,
        "controlnet": None,
        "reward": None,
        "moe_agiqa": None,
        "mdiqa": None,
        "lar_iqa": None,
        "clipiqa": None,
        "domain": None,
        "finisher": None,
    } | others


MEASURED = {"made_from": {"images": 64}}
"""The default thresholds, said to be measured: without that no automatic mask is cut."""


def pipeline(channels: int = 9, seed: int = 0, **others):
    """A silent pipeline with random weights."""
    from grefine.pipeline import GRefinePipeline

    pipe = GRefinePipeline(**components(channels, seed, **({"calibration": MEASURED} | others)))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_tiny(folder: Path, **others) -> Path:
    """Save such a pipeline and return its folder."""
    pipeline(**others).save_pretrained(folder)
    return folder
