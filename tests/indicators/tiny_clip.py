"""A small CLIP with random weights and a byte tokenizer of its own, for tests that need no meaning."""

from __future__ import annotations

import functools

import numpy as np
import torch
from PIL import Image
from transformers import CLIPTokenizer

from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.types import ParsedPrompt, Phrase

WORDS = ("a", "red", "blue", "ball", "cone", "house", "grass", "green", "good", "bad", "photo", "on", "old")


def tokenizer(length: int = 32) -> CLIPTokenizer:
    """Every printable character, each alone and at the end of a word, and the words above by merging."""
    letters = [chr(n) for n in range(33, 127)]
    vocab = letters + [f"{letter}</w>" for letter in letters]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            if pair not in merges:
                merges.append(pair)
            if "".join(pair) not in vocab:
                vocab.append("".join(pair))
            parts = ["".join(pair), *parts[2:]]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(vocab)}, merges=merges, model_max_length=length
    )


@functools.cache
def clip(stem: str = "conv", seed: int = 0) -> ClipSurgery:
    words = tokenizer()
    torch.manual_seed(seed)
    model = ClipSurgery(
        embed_dim=32,
        image_size=64,
        patch_size=8,
        vision_width=32,
        vision_layers=3,
        vision_heads=2,
        text_width=32,
        text_layers=2,
        text_heads=2,
        context_length=32,
        vocab_size=len(words),
        stem=stem,
        surgery_layers=2,
        eos_token_id=words.eos_token_id,
    )
    return model.eval().requires_grad_(False)


@functools.cache
def prompts(seed: int = 0) -> PQPrompts:
    torch.manual_seed(seed)
    return PQPrompts.from_clip(clip(), tokenizer(), n_ctx=4).eval().requires_grad_(False)


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def parsed(*phrases: tuple[str, str, int], text: str | None = None, **marks: tuple[int, ...]) -> ParsedPrompt:
    """Make a parsed prompt from (words, noun, ancestor); `negated=(i,)` and `style=(i,)` mark phrases."""
    made = tuple(
        Phrase(
            noun,
            tuple(words.split()),
            (),
            ancestor,
            negated=index in marks.get("negated", ()),
            drawable=index not in marks.get("style", ()),
        )
        for index, (words, noun, ancestor) in enumerate(phrases)
    )
    return ParsedPrompt(" ".join(words for words, _, _ in phrases) if text is None else text, (), made)
