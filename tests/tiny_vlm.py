"""A random image-text-to-text model of transformers, as small as it gets, as a folder."""

from __future__ import annotations

from pathlib import Path

import torch

PLACES = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEXT = 'Yes No Does this figure show " "? ? , . Please answer yes or no a red blue ball cube on table and'
WORDS = TEXT.split()
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


def save_tiny_vlm(folder: Path, words: list[str] = WORDS) -> Path:
    """Write a Qwen2.5-VL of some ten thousand parameters with a tokenizer of these words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    vocabulary = {word: index for index, word in enumerate(["<pad>", "<unk>", *PLACES, *words])}
    plain = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    plain.add_special_tokens(PLACES)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )
    looks = Qwen2VLImageProcessor(min_pixels=28**2, max_pixels=16 * 28**2, patch_size=14, merge_size=2)
    processor = Qwen2_5_VLProcessor(looks, tokenizer, Qwen2VLVideoProcessor(), chat_template=TEMPLATE)
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6}
    narrow = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": vocabulary["<|im_end|>"]}
    text = narrow | ends | {"num_key_value_heads": 2, "vocab_size": len(vocabulary), "rope_parameters": rope}
    eye = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    marks = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=eye | {"patch_size": 14, "spatial_merge_size": 2, "fullatt_block_indexes": [1]},
        **{f"{mark}_token_id": vocabulary[f"<|{pad}|>"] for mark, pad in marks.items()},
    )
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
