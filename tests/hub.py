"""The repositories that `sdxl` is fetched from, in their published layout and with random values at reduced width.

File names, variants, keys, configs and the vocabulary of CLIP are the published ones; only widths and depths are not.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import http.server
import json
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
import yaml
from components import vae
from diffusers import AutoencoderKL, ControlNetModel
from ldm_layout import sdxl_encoders, sdxl_unet
from open_clip.model import CLIP as OpenClip
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import save_file
from tiny_vlm import save_tiny_vlm
from transformers import (
    BertTokenizerFast,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
)

from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import FACTORS, PQPrompts
from grefine.models.reward import RewardModel
from grefine.resources import bundled

BASE = "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"
VAE = "madebyollin/sdxl-vae-fp16-fix"
CONTROL = "xinsir/controlnet-tile-sdxl-1.0"
CLIP = "timm/vit_base_patch16_clip_224.openai"
REWARD = "THUDM/ImageReward"
BERT = "google-bert/bert-base-uncased"
PICKSCORE = "yuvalkirstain/PickScore_v1"
CLIP_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
HPS = "xswu/HPSv2"
CLIP_OPENAI = "openai/clip-vit-base-patch32"
VQA = "Qwen/Qwen2-VL-2B-Instruct"
CLIP_B32 = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
HUB = (BASE, VAE, CONTROL, CLIP, REWARD, BERT, CLIP_B32)
PLACES = {
    BASE: "sdxl/base",
    VAE: "sdxl/vae",
    CONTROL: "sdxl/controlnet",
    CLIP: "clip",
    REWARD: "imagereward",
    BERT: "imagereward/tokenizer",
    CLIP_B32: "clip-b32",
    "pq-prompts": "pq-prompts",
}
"""Where each repository's files lie in the cache."""
PROMPTS = "pq-prompts"
"""No repository of the hub: plain files behind addresses."""
VOCABULARY = 49408
SAID = ("a red ball on snow", "a house on grass", "a green tree", "a blue box", "a star", "a red house")
"""The prompts of the pictures."""
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
    tile_controlnet().save_pretrained(root / CONTROL)
    write_maps(root)
    write_reward(root / REWARD)
    write_bert(root / BERT)
    write_clip(root / CLIP_B32)
    for repository in HUB:
        (root / repository / "README.md").write_text("A model card that nobody asked for.\n")
    return root


def write_base(home: Path) -> None:
    sdxl_unet(9, 32, 32 + 48).half().save_pretrained(home / "unet", variant="fp16")
    for name, encoder in zip(("text_encoder", "text_encoder_2"), sdxl_encoders(VOCABULARY, 77), strict=True):
        encoder.half().save_pretrained(home / name, variant="fp16")
    finish_base(home)


def finish_base(home: Path) -> None:
    """Write what the repository holds beside its networks, and the published mistake in its encoders' configs."""
    for name in ("text_encoder", "text_encoder_2"):
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
    folder.mkdir(parents=True, exist_ok=True)
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


def tile_controlnet() -> ControlNetModel:
    """Of the UNet's widths, shown pictures of eight pixels to a latent."""
    torch.manual_seed(5)
    net = ControlNetModel.from_unet(sdxl_unet(4, 32, 32 + 48), conditioning_embedding_out_channels=(8, 16, 16, 16))
    for block in [*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out]:
        torch.nn.init.normal_(block.weight, std=0.05)
    return net.eval()


MAPS = {"embed_dim": 64, "image_size": 64, "vision_width": 64, "vision_layers": 7, "vision_heads": 1}
MAPS |= {"text_width": 64, "text_layers": 2, "text_heads": 1}
REWARD_SIZES = {"vision_width": 64, "vision_depth": 2, "vision_heads": 1, "text_width": 64, "text_depth": 2}
REWARD_SIZES |= {"image_size": 64, "text_heads": 1, "text_hidden": 96, "projection": 16, "rating_widths": (32, 8)}
CLIP_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
CLIP_VISION = CLIP_TEXT | {"image_size": 64, "patch_size": 32}


def write_maps(root: Path, sizes: Mapping[str, Any] = MAPS) -> None:
    """CLIP in open_clip's names, and prompts that begin and end with its own tokens."""
    torch.manual_seed(4)
    clip = ClipSurgery(
        patch_size=16, context_length=77, vocab_size=VOCABULARY, eos_token_id=VOCABULARY - 1, **sizes
    ).eval()
    (root / CLIP).mkdir(parents=True)
    state = {name: value.contiguous() for name, value in clip.clip.state_dict().items()}
    save_file(state, root / CLIP / "open_clip_model.safetensors")
    (root / PROMPTS).mkdir(parents=True)
    prompts = PQPrompts(n_ctx=16, width=clip.clip.token_embedding.weight.shape[1])
    table = clip.clip.token_embedding.weight.detach()
    for index, factor in enumerate(FACTORS):
        content = {
            "prompt_learner.ctx": prompts.ctx[index].detach().clone(),
            "prompt_learner.token_prefix": table[VOCABULARY - 2].expand(2, 1, -1).clone(),
            "prompt_learner.token_suffix": table[VOCABULARY - 1].expand(2, 60, -1).clone(),
        }
        torch.save({"params": content}, root / PROMPTS / f"PQ-{factor}.pth")


REWARD_NAMES = (
    ("vision.embeddings.class_embedding", "blip.visual_encoder.cls_token"),
    ("vision.embeddings.position_embedding", "blip.visual_encoder.pos_embed"),
    ("vision.embeddings.patch_embedding.", "blip.visual_encoder.patch_embed.proj."),
    ("vision.encoder.layers.", "blip.visual_encoder.blocks."),
    ("vision.post_layernorm.", "blip.visual_encoder.norm."),
    (".self_attn.qkv.", ".attn.qkv."),
    (".self_attn.projection.", ".attn.proj."),
    (".layer_norm", ".norm"),
    ("text.", "blip.text_encoder."),
    ("vision_projection.", "blip.vision_proj."),
    ("text_projection.", "blip.text_proj."),
    ("rating.", "mlp.layers."),
)
"""From our names to the published ones."""


def write_reward(home: Path, sizes: Mapping[str, Any] = REWARD_SIZES) -> None:
    """ImageReward's pickle of tensors, with the buffer that transformers no longer stores."""
    torch.manual_seed(6)
    model = RewardModel(**sizes)
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in REWARD_NAMES:
            begins = name.startswith(ours) or (ours.startswith(".") and name.startswith("blip.visual_encoder."))
            name = name.replace(ours, theirs, 1) if begins else name
        state[name] = value
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(512)[None]
    home.mkdir(parents=True)
    torch.save(state, home / "ImageReward.pt")
    (home / "med_config.json").write_text("{}")


def write_bert(home: Path) -> None:
    """BERT's vocabulary in size and special words; what else it holds is ours."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1) if not chr(code).isupper()]
    words = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [*letters, *(f"##{letter}" for letter in letters), "red", "ball", "snow", "house"]
    words += [f"[unused{i}]" for i in range(99, 99 + 30522 - len(words))]
    home.mkdir(parents=True)
    (home / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}).save_pretrained(home)
    (home / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "model_max_length": 512}))
    (home / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"], "model_type": "bert"}))


def write_clip(
    home: Path,
    text: Mapping[str, Any] = CLIP_TEXT,
    vision: Mapping[str, Any] = CLIP_VISION,
    projection: int = 32,
    pickled: bool = False,
) -> None:
    """A transformers CLIP folder with a tokenizer and an image processor."""
    torch.manual_seed(7)
    ends = {"bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1, "pad_token_id": VOCABULARY - 1}
    words = {"vocab_size": VOCABULARY, "max_position_embeddings": 77, **ends, **text}
    model = CLIPModel(CLIPConfig(text_config=words, vision_config=dict(vision), projection_dim=projection))
    model.save_pretrained(home)
    if pickled:
        (home / "model.safetensors").unlink()
        torch.save(model.state_dict(), home / "pytorch_model.bin")
    write_tokenizer(home, "<|endoftext|>")
    CLIPTokenizer.from_pretrained(home).save_pretrained(home)
    side = vision["image_size"]
    CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(home)


HPS_SIZES = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 28, "layers": 2, "width": 32, "head_width": 16, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": VOCABULARY, "width": 32, "heads": 2, "layers": 2},
}


def write_judges(root: Path) -> Path:
    """Write the judges that belong to no pipeline: PickScore, its tokenizer's repository, HPSv2, CLIPScore's CLIP."""
    write_clip(root / PICKSCORE)
    write_clip(root / CLIP_H)
    write_clip(root / CLIP_OPENAI, pickled=True)
    for path in (root / PICKSCORE).iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    write_hps(root / HPS)
    write_reward(root / REWARD)
    write_bert(root / BERT)
    write_clip(root / CLIP_B32)
    write_vqa(root / VQA)
    return root


def write_hps(home: Path, sizes: Mapping[str, Any] = HPS_SIZES) -> None:
    torch.manual_seed(8)
    home.mkdir(parents=True)
    torch.save({"state_dict": OpenClip(**sizes).state_dict()}, home / "HPS_v2_compressed.pt")


def write_vqa(home: Path) -> None:
    """The files of a Qwen2-VL repository: the template stands in a JSON file, as published."""
    save_tiny_vlm(home)
    template = (home / "chat_template.jinja").read_text()
    (home / "chat_template.jinja").unlink()
    (home / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    (home / "merges.txt").write_text("#version: 0.2\n")


def write_recipes(folder: Path, root: Path, address: str = "http://127.0.0.1:1") -> Path:
    """Write a recipe of the prompts that names the hashes of ours: the bundled one holds the published hashes."""
    recipe = yaml.safe_load((bundled("configs") / "fetch" / "pq-prompts.yaml").read_text())
    for file in recipe["files"]:
        content = (root / PROMPTS / file["path"]).read_bytes()
        file |= {"url": f"{address}/{PROMPTS}/{file['path']}", "sha256": hashlib.sha256(content).hexdigest()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pq-prompts.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def write_pictures(folder: Path, count: int, side: int, table: Path) -> Path:
    """Write coloured noise of `side` pixels, and the table of its prompts."""
    folder.mkdir()
    with table.open("w", newline="") as sink:
        rows = csv.writer(sink)
        rows.writerow(["file", "prompt"])
        for index in range(count):
            noise = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
            rows.writerow([f"{index}.png", SAID[index % len(SAID)]])
    return folder


class Hub:
    """A server on this machine that speaks as much of the hub's protocol as its client needs.

    `faults` maps a part of an address to what goes wrong there: cut, drop (once), lie, redirect, loop, escape, gated,
    gone, slow.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.faults, self.asked = root, dict[str, str](), list[str]()
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def commit(self, repository: str) -> str:
        return hashlib.sha1(repository.encode()).hexdigest()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path).strip("/")
        self.asked.append(f"{request.command} {path}")
        fault = next((what for part, what in self.faults.items() if part in path), None)
        repository, _, rest = path.partition("/resolve/")
        file = self.root / repository / rest.partition("/")[2]
        if fault in ("gated", "gone"):
            code, status = ("GatedRepo", 401) if fault == "gated" else ("RepoNotFound", 404)
            reply(request, status, b"{}", {"X-Error-Code": code, "X-Error-Message": "No."})
        elif path.startswith("api/models/"):
            self.describe(request, path.removeprefix("api/models/"), fault)
        elif path.startswith(f"{PROMPTS}/"):
            self.give(request, self.root / path, {}, fault)
        elif not file.is_file():
            reply(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            headers = {"X-Repo-Commit": self.commit(repository), "ETag": f'"{etag(file)}"'}
            headers |= {"X-Linked-Size": str(file.stat().st_size), "X-Linked-Etag": f'"{etag(file)}"'}
            if fault == "loop" or (fault == "redirect" and "cdn=1" not in request.path):
                reply(request, 302, b"", headers | {"Location": f"{self.address}/{path}?cdn=1"})
            else:
                self.give(request, file, headers, fault)

    def describe(self, request: http.server.BaseHTTPRequestHandler, rest: str, fault: str | None) -> None:
        owner, name, *more = rest.split("/")
        repository, home = f"{owner}/{name}", self.root / owner / name
        if not home.is_dir():
            reply(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif more[:1] != ["tree"]:
            reply(request, 200, json.dumps({"id": repository, "sha": self.commit(repository)}).encode())
        else:
            rows = [entry(home, file) for file in sorted(home.rglob("*"))]
            if fault == "escape":
                rows.append(rows[-1] | {"path": "tokenizer/../../../../escaped.txt"})
            reply(request, 200, json.dumps(rows).encode())

    def give(
        self, request: http.server.BaseHTTPRequestHandler, file: Path, headers: dict[str, str], fault: str | None
    ) -> None:
        start = request.headers.get("Range", "")
        if request.command == "HEAD" or not (fault or start):
            stream(request, file, headers)
            return
        content, status = file.read_bytes(), 200
        if fault == "lie":
            content = bytes(255 - byte for byte in content[:64]) + content[64:]
        if fault == "cut":
            content = content[: len(content) // 2]
        if start.startswith("bytes="):
            first = int(start.removeprefix("bytes=").split("-")[0])
            headers |= {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
            content, status = content[first:], 206
        if fault == "drop":
            self.faults = {part: what for part, what in self.faults.items() if what != "drop"}
            reply(request, status, content, headers, only=len(content) // 2)
            request.close_connection = True
            return
        reply(request, status, content, headers, pause=fault == "slow")


def stream(request: http.server.BaseHTTPRequestHandler, file: Path, headers: dict[str, str]) -> None:
    """Answer with a whole file, however large."""
    request.send_response(200)
    for name, value in (headers | {"Content-Length": str(file.stat().st_size)}).items():
        request.send_header(name, value)
    request.end_headers()
    if request.command == "GET":
        with contextlib.suppress(OSError), file.open("rb") as source:
            shutil.copyfileobj(source, request.wfile, 1 << 20)


def reply(
    request: http.server.BaseHTTPRequestHandler,
    status: int,
    content: bytes,
    headers: dict[str, str] | None = None,
    only: int | None = None,
    pause: bool = False,
) -> None:
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command == "HEAD":
        return
    with contextlib.suppress(OSError):
        if pause:
            request.wfile.write(content[:1024])
            request.wfile.flush()
            time.sleep(30)
        request.wfile.write(content[1024 if pause else 0 : only])


def entry(home: Path, file: Path) -> dict[str, object]:
    """One row of a repository's listing."""
    row: dict[str, object] = {"path": file.relative_to(home).as_posix(), "oid": etag(file)[:40]}
    if not file.is_file():
        return row | {"type": "directory", "size": 0}
    row |= {"type": "file", "size": file.stat().st_size}
    return row | (
        {"lfs": {"oid": sha256(file), "size": file.stat().st_size, "pointerSize": 130}} if is_large(file) else {}
    )


def is_large(file: Path) -> bool:
    return file.suffix in (".safetensors", ".pt", ".pth", ".bin")


def sha256(file: Path) -> str:
    return _sha256(file, file.stat().st_mtime_ns)


@functools.cache
def _sha256(file: Path, written: int) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def blob(file: Path) -> str:
    if not file.is_file():
        return "0" * 40
    content = file.read_bytes()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def etag(file: Path) -> str:
    return sha256(file) if is_large(file) else blob(file)
