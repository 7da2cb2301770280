"""The maps over published weights: OpenAI's CLIP ViT-B/16 and the prompts that PQ-Map's authors released."""

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grefine.fetching import fetched
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import FACTORS, PQPrompts

START = 49406
"""The row of CLIP's table for the start of a text."""
MERGES = Path(__file__).parent / "clip_merges.txt.gz"
"""The pairs that OpenAI's tokenizer joins, in order (MIT, see NOTICE)."""
NAMES = ("released", "clip")
"""Where a pipeline is named, these mean the published weights, without any diffusion model."""


def released_clip() -> ClipSurgery:
    """Build CLIP ViT-B/16 from the files of `grefine fetch clip`."""
    from safetensors.torch import load_file

    return ClipSurgery.from_reference(load_file(fetched("clip", "open_clip_model.safetensors")))


def released_prompts() -> PQPrompts:
    """Build the learned prompts from the files of `grefine fetch pq-prompts`."""
    import torch

    files = {factor: fetched("pq-prompts", f"PQ-{factor}.pth") for factor in FACTORS}
    return PQPrompts.from_reference(
        {factor: torch.load(file, map_location="cpu", weights_only=True) for factor, file in files.items()}
    )


def start_tokens_agree() -> bool:
    """Say whether the released prompts begin with the start token of this CLIP, as they do if learned on it."""
    from safetensors import safe_open

    with safe_open(fetched("clip", "open_clip_model.safetensors"), framework="pt") as file:
        table = file.get_slice("token_embedding.weight")
        start = table[START : START + 1].float()[0]
    prefix = released_prompts().token_prefix[:, 0].float()
    return bool(((prefix - start).abs() <= 2e-3 * start.abs().max()).all())


def released_tokenizer() -> Any:
    """Build OpenAI CLIP's tokenizer for transformers from its list of merges."""
    from transformers import CLIPTokenizerFast

    merges = gzip.decompress(MERGES.read_bytes()).decode().splitlines()
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that stand for themselves
    signs = [*map(chr, shown), *(chr(256 + n) for n in range(256 - len(shown)))]
    words = [*signs, *(sign + "</w>" for sign in signs), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        Path(folder, "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
        kind = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
        Path(folder, "tokenizer_config.json").write_text(json.dumps(kind), encoding="utf-8")
        tokenizer = CLIPTokenizerFast.from_pretrained(folder)
    tokenizer.name_or_path = ""
    return tokenizer


PARTS: dict[str, Callable[[], Any]] = {
    "clip": released_clip,
    "clip_tokenizer": released_tokenizer,
    "pq_prompts": released_prompts,
}
"""The maps' components by name."""
