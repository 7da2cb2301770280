"""A pipeline folder that holds only what the maps need, with random weights and the toy world's words."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from lab.world.vocabulary import CONTEXT, build_tokenizer


def write_folder(folder: Path, seed: int = 0) -> Path:
    tokenizer = build_tokenizer()
    torch.manual_seed(seed)
    clip = ClipSurgery(
        embed_dim=32,
        image_size=64,
        patch_size=8,
        vision_width=32,
        vision_layers=2,
        vision_heads=2,
        text_width=32,
        text_layers=1,
        text_heads=2,
        context_length=CONTEXT,
        vocab_size=len(tokenizer),
        stem="conv",
        surgery_layers=1,
        eos_token_id=tokenizer.eos_token_id,
    )
    clip.save_pretrained(folder / "clip")
    PQPrompts.from_clip(clip, tokenizer, n_ctx=4).save_pretrained(folder / "pq_prompts")
    tokenizer.save_pretrained(folder / "clip_tokenizer")
    index = {"_class_name": "GRefinePipeline", "clip": ["grefine.models.clip_surgery", "ClipSurgery"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
