"""SDXL at its true size from fetch to one step: 20 GB of disk, 12 GB of memory, half an hour on two cores.

`pytest -m slow -s tests/pipeline/test_pipe_true_size.py` prints a line per stage with its time and memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hub import (
    BASE,
    BERT,
    CLIP_B32,
    REWARD,
    VAE,
    VOCABULARY,
    Hub,
    finish_base,
    write_bert,
    write_clip,
    write_maps,
    write_recipes,
    write_reward,
)
from ldm_layout import SDXL_BLOCKS
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

UNET = SDXL_BLOCKS | {
    "sample_size": 128,
    "in_channels": 9,
    "block_out_channels": (320, 640, 1280),
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
DECODER = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
    "scaling_factor": 0.13025,
    "force_upcast": False,
}
WORDS = {"vocab_size": VOCABULARY, "max_position_embeddings": 77}
SMALL = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
LARGE = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
TEXT_B32 = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
PARAMETERS = {"unet": 2_567_478_084, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840}
"""How many values each part has; they are those of the published files."""
REFINE = """
import json, re, time
import torch
from PIL import Image
from grefine import GRefinePipeline

began = time.perf_counter()
pipe = GRefinePipeline.from_pretrained("sdxl", dtype=torch.bfloat16)
loaded = time.perf_counter()
names = ("unet", "vae", "text_encoder", "text_encoder_2")
sizes = {name: sum(p.numel() for p in getattr(pipe, name).parameters()) for name in names}
picture = Image.effect_noise((512, 512), 60).convert("RGB")
mask = Image.new("L", picture.size)
mask.paste(255, (32, 32, 480, 480))
settings = {"total_steps": 1, "restorer": "none", "max_upscale": 1.0}
generator = torch.Generator().manual_seed(0)
decision = pipe("a red ball on snow", picture, mask, config=settings, generator=generator).results[0].decision
done = {"load": loaded - began, "refine": time.perf_counter() - loaded, "sizes": sizes}
done |= {"dtype": str(pipe.unet.dtype), "reason": decision.reason, "candidates": sorted(decision.candidates)}
memory = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(json.dumps(done | {"most memory in GB": round(int(memory[1]) / 2**20, 1)}))
"""


def filled(kind, config, **how):
    """Return a network of random bfloat16 values, made without one in float32."""
    with torch.device("meta"):
        net = kind.from_config(config, **how) if hasattr(kind, "from_config") else kind(config)
    net = net.to(torch.bfloat16).to_empty(device="cpu").eval()
    for name, values in net.named_parameters():
        if values.ndim > 1:
            torch.nn.init.normal_(values, std=0.5 * values[0].numel() ** -0.5)
        else:
            torch.nn.init.constant_(values, float("norm" in name and name.endswith("weight")))
    return net


def write_true_repositories(root: Path) -> None:
    """Write one after the other, so that one network at a time is in memory."""
    torch.manual_seed(0)
    filled(UNet2DConditionModel, UNET).save_pretrained(root / BASE / "unet", variant="fp16")
    first = CLIPTextConfig(**WORDS, **SMALL, projection_dim=768)
    filled(CLIPTextModel, first).save_pretrained(root / BASE / "text_encoder", variant="fp16")
    second = CLIPTextConfig(**WORDS, **LARGE, projection_dim=1280, hidden_act="gelu")
    filled(CLIPTextModelWithProjection, second).save_pretrained(root / BASE / "text_encoder_2", variant="fp16")
    finish_base(root / BASE)
    filled(AutoencoderKL, DECODER).save_pretrained(root / VAE)
    write_maps(root, {})
    write_reward(root / REWARD, {})
    write_bert(root / BERT)
    write_clip(root / CLIP_B32, TEXT_B32, SMALL | {"image_size": 224, "patch_size": 32}, 512)


def timed(command: list[str], environment: dict[str, str]) -> tuple[str, float]:
    """Run a command; return what it printed and how many seconds it took."""
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout, time.perf_counter() - began


@pytest.mark.slow
def test_sdxl_at_its_true_size(tmp_path):
    began = time.perf_counter()
    write_true_repositories(tmp_path / "hub")
    print(f"\nrepositories written: {time.perf_counter() - began:.0f} s")
    hub = Hub(tmp_path / "hub")
    environment = os.environ | {
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "home"),
        "GREFINE_CACHE": str(tmp_path / "cache"),
        "GREFINE_RECIPES": str(write_recipes(tmp_path / "recipes", hub.root, hub.address)),
    }
    fetch = [sys.executable, "-m", "grefine", "fetch", "sdxl", "--no-controlnet"]
    _, seconds = timed(fetch, environment)
    size = sum(f.stat().st_size for f in (tmp_path / "cache").rglob("*") if f.is_file() and not f.is_symlink())
    print(f"grefine fetch sdxl --no-controlnet: {seconds:.0f} s, {size / 2**30:.1f} GB on disk")
    hub.close()
    out, seconds = timed([sys.executable, "-c", REFINE], environment | {"HF_HUB_OFFLINE": "1"})
    done = json.loads(out.splitlines()[-1])
    print(f"from_pretrained in bfloat16 and one step at 512x512: {seconds:.0f} s; {done}")
    assert done["sizes"] == PARAMETERS
    assert done["dtype"] == "torch.bfloat16"
    assert "repainted" in done["candidates"]
