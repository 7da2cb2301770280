"""The repositories that `sdxl` is fetched from, in their published layout and with random values at reduced width.

File names, variants, keys, configs and the vocabulary of CLIP are the published ones; only widths and depths are not.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
import yaml
from components import controlnet, text_config, unet, vae
from diffusers import AutoencoderKL
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import FACTORS, PQPrompts
from grefine.resources import bundled

BASE = "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"
VAE = "madebyollin/sdxl-vae-fp16-fix"
CONTROL = "xinsir/controlnet-tile-sdxl-1.0"
CLIP = "timm/vit_base_patch16_clip_224.openai"
PROMPTS = "pq-prompts"
"""No repository of the hub: plain files behind addresses."""
VOCABULARY = 49408
EULER = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.21.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}


def write_repositories(root: Path) -> Path:
    """Write every repository below `root`, each under its own name."""
    write_base(root / BASE)
    fixed_vae().save_pretrained(root / VAE)
    controlnet().save_pretrained(root / CONTROL)
    write_maps(root)
    for repository in (BASE, VAE, CONTROL, CLIP):
        (root / repository / "README.md").write_text("A model card that nobody asked for.\n")
    return root


def write_base(home: Path) -> None:
    torch.manual_seed(0)
    unet().half().save_pretrained(home / "unet", variant="fp16")
    for name, kind in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)):
        kind(text_config(VOCABULARY, 32, 77)).half().save_pretrained(home / name, variant="fp16")
        config = json.loads((home / name / "config.json").read_text())
        config |= {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}  # as published
        (home / name / "config.json").write_text(json.dumps(config))
    write_tokenizer(home / "tokenizer", "<|endoftext|>")
    write_tokenizer(home / "tokenizer_2", "!")
    (home / "scheduler").mkdir(parents=True)
    (home / "scheduler" / "scheduler_config.json").write_text(json.dumps(EULER))


def write_tokenizer(folder: Path, pad: str) -> None:
    """CLIP's vocabulary in the four files that repositories of 2023 carry."""
    source = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    folder.mkdir(parents=True)
    vocabulary = {names.get(token, token): index for token, index in source.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    merges = sorted(source.bpe_ranks, key=source.bpe_ranks.__getitem__)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(marks | {"pad_token": pad}))
    config = {"add_prefix_space": False, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(marks | config | {"pad_token": pad}))


def fixed_vae() -> AutoencoderKL:
    """Eight pixels to a latent, as SDXL's."""
    torch.manual_seed(3)
    config = dict(vae().config) | {"block_out_channels": (16, 32, 32, 32), "sample_size": 512, "force_upcast": False}
    config |= {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL.from_config(config).eval()


def write_maps(root: Path) -> None:
    """CLIP in open_clip's names, and prompts that begin and end with its own tokens."""
    torch.manual_seed(4)
    clip = ClipSurgery(
        embed_dim=64,
        image_size=64,
        patch_size=16,
        vision_width=64,
        vision_layers=7,
        vision_heads=1,
        text_width=64,
        text_layers=2,
        text_heads=1,
        context_length=77,
        vocab_size=VOCABULARY,
        eos_token_id=VOCABULARY - 1,
    ).eval()
    (root / CLIP).mkdir(parents=True)
    state = {name: value.contiguous() for name, value in clip.clip.state_dict().items()}
    save_file(state, root / CLIP / "open_clip_model.safetensors")
    (root / PROMPTS).mkdir(parents=True)
    prompts = PQPrompts(n_ctx=16, width=64)
    table = clip.clip.token_embedding.weight.detach()
    for index, factor in enumerate(FACTORS):
        content = {
            "prompt_learner.ctx": prompts.ctx[index].detach().clone(),
            "prompt_learner.token_prefix": table[VOCABULARY - 2].expand(2, 1, -1).clone(),
            "prompt_learner.token_suffix": table[VOCABULARY - 1].expand(2, 60, -1).clone(),
        }
        torch.save({"params": content}, root / PROMPTS / f"PQ-{factor}.pth")


def write_recipes(folder: Path, root: Path, address: str = "http://127.0.0.1:1") -> Path:
    """Write a recipe of the prompts that names the hashes of ours: the bundled one holds the published hashes."""
    recipe = yaml.safe_load((bundled("configs") / "fetch" / "pq-prompts.yaml").read_text())
    for file in recipe["files"]:
        content = (root / PROMPTS / file["path"]).read_bytes()
        file |= {"url": f"{address}/{PROMPTS}/{file['path']}", "sha256": hashlib.sha256(content).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pq-prompts.yaml").write_text(yaml.safe_dump(recipe))
    return folder
