"""SDXL checkpoints in their original one-file layout, written from diffusers components of any width."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

State = dict[str, Tensor]
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
EDGES = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
MID = {"resnets.0": "middle_block.0", "attentions.0": "middle_block.1", "resnets.1": "middle_block.2"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}

SDXL_BLOCKS = {
    "out_channels": 4,
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
}
"""What SDXL's UNet is at any width."""


def sdxl_unet(channels: int, pooled: int, cross: int) -> UNet2DConditionModel:
    """SDXL's UNet in its own layout of blocks, at a width that a test can afford."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        block_out_channels=(16, 32, 64),
        attention_head_dim=(1, 2, 4),
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2, 3),
        projection_class_embeddings_input_dim=6 * 8 + pooled,
        cross_attention_dim=cross,
        norm_num_groups=8,
        **SDXL_BLOCKS,
    ).eval()


def sdxl_encoders(vocab: int, length: int) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """SDXL's two text encoders, the second wider than the first, by which readers tell them apart."""
    from components import text_config

    torch.manual_seed(0)
    return (
        CLIPTextModel(text_config(vocab, 32, length)).eval(),
        CLIPTextModelWithProjection(text_config(vocab, 48, length)).eval(),
    )


def save_ldm(path: Path, parts: Mapping[str, Any]) -> Path:
    """Write SDXL components as one `.safetensors` file in the original layout."""
    layout = (
        ("model.diffusion_model", _unet, "unet"),
        ("first_stage_model", _vae, "vae"),
        ("conditioner.embedders.0.transformer", _clip, "text_encoder"),
        ("conditioner.embedders.1.model", _open_clip, "text_encoder_2"),
    )
    state = {"denoiser.sigmas": torch.linspace(14.6, 0.03, 1000)}  # published files carry it; readers leave it
    for start, written, part in layout:  # parts that are loaded when asked for leave the memory after their turn
        found = written(parts[part])
        state |= {f"{start}.{name}": value.detach().clone().contiguous() for name, value in found.items()}
    save_file(state, path)
    return path


def save_sd15(path: Path, unet: UNet2DConditionModel) -> Path:
    """Write what tells a Stable Diffusion 1 checkpoint: one text encoder, a UNet without added conditioning."""
    state = {f"model.diffusion_model.{k}": v for k, v in _unet(unet).items() if not k.startswith("label_emb")}
    state["cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"] = torch.zeros(77, 32)
    save_file({name: value.detach().clone().contiguous() for name, value in state.items()}, path)
    return path


def _unet(unet: UNet2DConditionModel) -> State:
    """Number the blocks through as the original does: a resampler counts on the way down, not on the way up."""
    deep = len(unet.config["block_out_channels"])
    per_block = unet.config["layers_per_block"] + 1
    attends = [name.startswith("CrossAttn") for name in unet.config["up_block_types"]]

    def place(name: str) -> str:
        for ours, theirs in EDGES.items():
            if name.startswith(f"{ours}."):
                return name.replace(ours, theirs, 1)
        if name.startswith("mid_block."):
            part = ".".join(name.split(".")[1:3])
            return _inner(name.replace(f"mid_block.{part}", MID[part], 1))
        way, block, kind, layer, rest = name.split(".", 4)
        if way == "down_blocks":
            if kind == "downsamplers":
                return f"input_blocks.{1 + int(block) * per_block + per_block - 1}.0.op.{rest.removeprefix('conv.')}"
            return _inner(f"input_blocks.{1 + int(block) * per_block + int(layer)}.{int(kind == 'attentions')}.{rest}")
        assert way == "up_blocks", name
        if kind == "upsamplers":
            last = int(block) * per_block + per_block - 1
            assert int(block) < deep - 1, name
            return f"output_blocks.{last}.{1 + attends[int(block)]}.{rest}"
        return _inner(f"output_blocks.{int(block) * per_block + int(layer)}.{int(kind == 'attentions')}.{rest}")

    return {place(name): value for name, value in unet.state_dict().items()}


def _inner(name: str) -> str:
    for ours, theirs in RESNET.items():
        name = re.sub(rf"^((?:input|output|middle)_blocks?\.[\d.]+?)\.{ours}\.", rf"\1.{theirs}.", name)
    return name


def _vae(vae: torch.nn.Module) -> State:
    last = len(vae.config["up_block_types"]) - 1  # type: ignore[index]
    found = {}
    for given, value in vae.state_dict().items():
        name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", given)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{last - int(m[1])}.block.{m[2]}", name)
        name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0." in name:
            head, tail = name.split("mid_block.attentions.0.")
            part, kind = tail.rsplit(".", 1)
            name = f"{head}mid.attn_1.{VAE_ATTENTION[part]}.{kind}"
            if value.ndim == 2:  # the original's projections are convolutions of one pixel
                value = value[:, :, None, None]
        found[name] = value
    return found


def _clip(encoder: torch.nn.Module) -> State:
    """Keep the first encoder's names, as transformers wrote them when these files were made."""
    state = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in encoder.state_dict().items()}
    length = state["text_model.embeddings.position_embedding.weight"].shape[0]
    state["text_model.embeddings.position_ids"] = torch.arange(length)[None]
    return state


def _open_clip(encoder: torch.nn.Module) -> State:
    """Write the second encoder in open_clip's layout: queries, keys and values in one matrix, its own projection."""
    state = encoder.state_dict()
    state = {name.removeprefix("text_model."): value for name, value in state.items()}
    found = {
        "positional_embedding": state.pop("embeddings.position_embedding.weight"),
        "token_embedding.weight": state.pop("embeddings.token_embedding.weight"),
        "ln_final.weight": state.pop("final_layer_norm.weight"),
        "ln_final.bias": state.pop("final_layer_norm.bias"),
        "text_projection": state.pop("text_projection.weight").T,
        "logit_scale": torch.tensor(4.6),
    }
    for name, value in state.items():
        layer, rest = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name).groups()  # type: ignore[union-attr]
        block = f"transformer.resblocks.{layer}"
        if rest.startswith("self_attn.q_proj."):
            kind = rest.rsplit(".", 1)[1]
            three = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            found[f"{block}.attn.in_proj_{kind}"] = torch.cat(three)
        elif not rest.startswith(("self_attn.k_proj.", "self_attn.v_proj.")):
            part, kind = rest.rsplit(".", 1)
            found[f"{block}.{OPEN_CLIP[part]}.{kind}"] = value
    return found
