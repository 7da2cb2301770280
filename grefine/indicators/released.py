"""The maps over published weights: OpenAI's CLIP ViT-B/16 and the prompts that PQ-Map's authors released."""

from __future__ import annotations

from typing import Any

from grefine.fetching import fetched
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import FACTORS, PQPrompts

START = 49406
"""The row of CLIP's table for the start of a text."""
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
    """Build OpenAI CLIP's tokenizer for transformers from the vocabulary that open_clip carries."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    source = SimpleTokenizer()
    merges = [pair for pair, _ in sorted(source.bpe_ranks.items(), key=lambda item: item[1])]
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {names.get(token, token): index for token, index in source.encoder.items()}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
