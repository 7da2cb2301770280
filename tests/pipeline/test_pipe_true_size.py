"""SDXL at its true size, every command from fetch to a call of one file: 30 GB of disk, 11 GB of memory, an hour.

`pytest -m slow -s tests/pipeline/test_pipe_true_size.py` prints a line per stage with its time and memory.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from math import isfinite
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from hub import (
    BASE,
    BERT,
    CLIP_B32,
    CLIP_H,
    CLIP_VISION,
    CONTROL,
    HPS,
    PICKSCORE,
    REWARD,
    VAE,
    VOCABULARY,
    Hub,
    finish_base,
    write_bert,
    write_clip,
    write_hps,
    write_maps,
    write_pictures,
    write_recipes,
    write_reward,
)
from ldm_layout import SDXL_BLOCKS
from open_clip import get_model_config
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from grefine.refine.painters.choose import SDXL
from grefine.resources import bundled

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
CONTROLNET = {name: value for name, value in UNET.items() if name not in ("out_channels", "up_block_types")}
CONTROLNET |= {"in_channels": 4, "conditioning_embedding_out_channels": (16, 32, 96, 256)}
CONTROLNET.pop("sample_size")
WORDS = {"vocab_size": VOCABULARY, "max_position_embeddings": 77}
SMALL = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
LARGE = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
TEXT_B32 = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
PARAMETERS = {"unet": 2_567_478_084, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840}
"""How many values each part has; they are those of the published files."""
COMMON = """
import json, sys, time
from pathlib import Path
import torch
from diffusers import AutoencoderKL, StableDiffusionXLInpaintPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTextModelWithProjection
from grefine import GRefinePipeline

half, home = torch.bfloat16, Path(sys.argv[1])
picture = Image.open(home / "pictures" / "0.png").resize((256, 256))
"""
EXPLAIN = """
pipe = GRefinePipeline.from_pretrained("sdxl", dtype=half)
print(pipe.explain("a red ball on snow", picture))
"""
FROM_PIPE = """
vae = AutoencoderKL.from_pretrained(home / "hub" / VAE, torch_dtype=half)
base = home / "hub" / BASE
plain = StableDiffusionXLInpaintPipeline.from_pretrained(base, vae=vae, variant="fp16", torch_dtype=half)
pipe = GRefinePipeline.from_pipe(plain, maps="sdxl")
assert pipe.unet is plain.unet
"""
WRITE_FILE = """
from ldm_layout import save_ldm

class Parts(dict):
    def __missing__(self, name):
        return kinds[name].from_pretrained(fetched / name, torch_dtype=half, variant="fp16")

fetched = home / "cache" / "sdxl" / "base"
kinds = {"unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}
kinds |= {"text_encoder_2": CLIPTextModelWithProjection}
vae = AutoencoderKL.from_pretrained(fetched.with_name("vae"), torch_dtype=half)
save_ldm(home / "checkpoint.safetensors", Parts(vae=vae))
"""
FROM_FILE = """
pipe = GRefinePipeline.from_single_file(home / "checkpoint.safetensors", dtype=half, local_files_only=True)
"""
REFINE = """
mask = Image.new("L", picture.size)
mask.paste(255, (32, 32, 224, 224))
settings = {"total_steps": 2, "max_upscale": 1.0}
began = time.perf_counter()
generator = torch.Generator().manual_seed(0)
decision = pipe("a red ball on snow", picture, mask, config=settings, generator=generator).results[0].decision
print(json.dumps({"seconds of the call": round(time.perf_counter() - began), "reason": decision.reason}))
assert "repainted" in decision.candidates
(last,) = {"both", "restored"} & decision.candidates.keys()
assert {"imagereward", "clipiqa"} <= decision.candidates[last].keys()
"""
CHECK = """
names = ("unet", "vae", "text_encoder", "text_encoder_2", "controlnet")
print(json.dumps({name: sum(p.numel() for p in getattr(pipe, name).parameters()) for name in names}))
assert all(getattr(pipe, name).dtype == half for name in names)
assert pipe.clip.dtype == pipe.pq_prompts.dtype == torch.float32
assert [judge.spec.name for judge in pipe.judges()] == ["imagereward", "clipiqa"]
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
    filled(ControlNetModel, CONTROLNET).save_pretrained(root / CONTROL)
    write_maps(root, {})
    write_reward(root / REWARD, {})
    write_bert(root / BERT)
    write_clip(root / CLIP_B32, TEXT_B32, SMALL | {"image_size": 224, "patch_size": 32}, 512)


class Machine:
    """A machine whose network ends at the hub, and who says what every stage took."""

    def __init__(self, home: Path) -> None:
        self.home, tests = home, Path(__file__).resolve().parents[1]
        path = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])
        self.environment = os.environ | {"GREFINE_CACHE": str(home / "cache"), "PYTHONPATH": path}

    def run(self, what: str, *command: str | Path, **environment: str) -> str:
        """Run a stage in a process of its own; return what it printed."""
        began, most = time.perf_counter(), "0"
        with (self.home / "said.txt").open("w+") as sink:
            started = subprocess.Popen(command, env=self.environment | environment, stdout=sink)
            while started.poll() is None:
                most = (re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{started.pid}/status").read_text()) or [most])[0]
                time.sleep(0.1)
            sink.seek(0)
            said = sink.read()
        print(f"{what}: {time.perf_counter() - began:.0f} s, at most {int(most) / 2**20:.1f} GB of memory")
        assert started.returncode == 0, said
        return said

    def grefine(self, *arguments: str | Path, **environment: str) -> str:
        return self.run(f"grefine {arguments[0]}", sys.executable, "-m", "grefine", *arguments, **environment)

    def python(self, what: str, *parts: str) -> None:
        print(self.run(what, sys.executable, "-c", COMMON + "".join(parts), self.home).strip())


def publish(machine: Machine) -> None:
    """Write the repositories in another process: what this one once held, every later stage would have to share."""
    machine.run("\nrepositories written", sys.executable, __file__, machine.home / "hub")
    print(gigabytes(machine.home / "hub"))


def gigabytes(folder: Path) -> str:
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())
    return f"{size / 2**30:.1f} GB on disk"


def fetch(machine: Machine) -> None:
    hub = Hub(machine.home / "hub")
    recipes = write_recipes(machine.home / "recipes", hub.root, hub.address)
    network = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(machine.home / "home")}
    machine.grefine("fetch", "sdxl", GREFINE_RECIPES=str(recipes), **network)
    machine.environment["GREFINE_RECIPES"] = str(recipes)
    hub.close()
    print(gigabytes(machine.home / "cache"))


def measure(machine: Machine) -> None:
    table, home = machine.home / "prompts.csv", machine.home
    pictures = write_pictures(home / "pictures", 36, 224, table)  # as many as calibrating asks for
    source = ("--pipeline", "sdxl", "--prompts", table)
    machine.grefine("calibrate", "--images", pictures, *source)
    lines = machine.grefine("map", pictures / "0.png", "-o", home / "maps", *source, "--json").splitlines()
    assert json.loads(lines[0])["calibrated"]


def refine(machine: Machine) -> None:
    home = machine.home
    Image.open(home / "pictures" / "0.png").resize((512, 512)).save(home / "picture.png")
    (home / "masks").mkdir()
    mask = Image.new("L", (512, 512))
    mask.paste(255, (64, 64, 448, 448))
    mask.save(home / "masks" / "picture.png")
    asked = ["--pipeline", "sdxl", "--prompt", "a red ball on snow", "--masks", home / "masks", "--dtype", "bf16"]
    asked += ["--set", "total_steps=2", "--set", "max_upscale=1"]
    machine.grefine("refine", home / "picture.png", "-o", home / "out", *asked)
    (row,) = csv.DictReader((home / "out" / "results.csv").open())
    assert row["state"] in ("refined", "kept"), row
    (journal,) = (home / "out").rglob("journal.jsonl")
    (entry,) = [line for line in map(json.loads, journal.read_text().splitlines()) if line.get("kind") == "image"]
    taken = entry["seconds"]["stages"]
    print(json.dumps({"stages": taken} | {name: row[name] for name in ("state", "reason", "kept", "moved")}))
    assert min(taken["repaint"], taken["restore"]) > 0


def load(machine: Machine) -> None:
    index = json.loads((bundled("pipelines") / "sdxl" / "model_index.json").read_text())
    index = {name: index[name] for name in SDXL} | {"_class_name": "StableDiffusionXLInpaintPipeline"}
    (machine.home / "hub" / BASE / "model_index.json").write_text(json.dumps(index))
    machine.python("from_pretrained and explain", EXPLAIN, CHECK)
    names = f"BASE, VAE = {BASE!r}, {VAE!r}\n"
    machine.python("from_pipe and a call at 256x256", names, FROM_PIPE, CHECK, REFINE)
    shutil.rmtree(machine.home / "hub")
    machine.python("single file written", WRITE_FILE)
    machine.python("from_single_file and a call at 256x256", FROM_FILE, CHECK, REFINE)


@pytest.mark.slow
def test_sdxl_at_its_true_size(tmp_path):
    machine = Machine(tmp_path)
    publish(machine)
    fetch(machine)
    measure(machine)
    refine(machine)
    load(machine)


CLIP_H_TEXT = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
CLIP_H_VISION = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}


@pytest.mark.slow
def test_the_large_judges_at_their_true_size(tmp_path):
    """PickScore and HPSv2, one after the other: 8 GB of disk each, 8 GB of memory."""
    machine = Machine(tmp_path)
    Image.effect_noise((512, 512), 60).convert("RGB").save(tmp_path / "a.png")
    vision = CLIP_H_VISION | {"image_size": 224, "patch_size": 14}
    write_clip(tmp_path / "hub" / CLIP_H, vision=CLIP_VISION | {"image_size": 224})
    write_clip(tmp_path / "hub" / PICKSCORE, CLIP_H_TEXT, vision, 1024)
    judged(machine, "pickscore", "--accept-terms")
    write_hps(tmp_path / "hub" / HPS, get_model_config("ViT-H-14"))
    judged(machine, "hpsv2")


def judged(machine: Machine, name: str, *terms: str) -> None:
    hub = Hub(machine.home / "hub")
    network = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(machine.home / "home")}
    machine.grefine("fetch", name, *terms, **network)
    hub.close()
    shutil.rmtree(hub.root)
    table = machine.home / f"{name}.csv"
    machine.grefine("score", machine.home / "a.png", "--metrics", name, "--prompt", "a red ball", "-o", table)
    (row,) = csv.DictReader(table.open())
    assert isfinite(float(row[name]))
    print(f"{gigabytes(machine.home / 'cache' / name)}, {name} {row[name]}")
    shutil.rmtree(machine.home / "cache")


if __name__ == "__main__":
    write_true_repositories(Path(sys.argv[1]))
