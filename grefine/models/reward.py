"""ImageReward's geometry on transformers' own BLIP: image and text go in, token features and a reward come out.

After THUDM/ImageReward at c1392c6 (Apache-2.0). Its BLIP differs from transformers' defaults in several small numbers;
all of them are set here by name.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from grefine.models.component import ConfigMixin, ModelMixin, register_to_config
from grefine.models.reference import load_reference, rename

REWARD_MEAN, REWARD_STD = 0.16717, 1.03334
"""By which the raw reward is standardised: zero is the average of the published training pairs."""

VISION_RENAMES = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.norm([12])\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
    (r"^norm\.", "post_layernorm."),
)
POSITION_IDS = re.compile(r"(^|\.)embeddings\.position_ids$")  # an arange that transformers no longer stores


class RewardModel(ModelMixin, ConfigMixin):
    """Encode an image together with a text; optionally rate how well they match.

    The text encoder reads the image by cross-attention; every prompt is padded or cut to `text_length` tokens.
    `projection` is the width of the two contrastive projections that the checkpoint carries, `rating_widths` are those
    of the layers between the first token and the reward; None leaves either out.
    """

    @register_to_config
    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        vision_width: int = 1024,
        vision_depth: int = 24,
        vision_heads: int = 16,
        text_width: int = 768,
        text_depth: int = 12,
        text_heads: int = 12,
        text_hidden: int = 3072,
        vocabulary: int = 30524,
        positions: int = 512,
        text_length: int = 35,
        projection: int | None = 256,
        rating_widths: tuple[int, ...] | None = (1024, 128, 64, 16),
    ) -> None:
        super().__init__()
        self.vision = vision_encoder(image_size, patch_size, vision_width, vision_depth, vision_heads)
        self.text = text_encoder(text_width, text_depth, text_heads, text_hidden, vocabulary, positions, vision_width)
        self.vision_projection = self.text_projection = self.rating = None
        if projection is not None:
            self.vision_projection = nn.Linear(vision_width, projection)
            self.text_projection = nn.Linear(text_width, projection)
        if rating_widths is not None:
            # Linear layers without activations in between, dropout after all but the last two, as published.
            widths, dropouts, layers = [text_width, *rating_widths], (0.2, 0.2, 0.1), []
            for index, (inputs, outputs) in enumerate(pairwise(widths)):
                layers += [nn.Linear(inputs, outputs), *map(nn.Dropout, dropouts[index : index + 1])]
            self.rating = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    @classmethod
    def from_reference(cls, groups: Mapping[str, Mapping[str, Any]], **options: Any) -> "RewardModel":
        """Build the model from the published state dict, given as the group "reward"."""
        model = cls(**(geometry(groups.get("reward", {})) | options))
        renamed = {name: rename(state, REWARD_RENAMES, POSITION_IDS) for name, state in groups.items()}
        load_reference({"reward": model}, renamed, "ImageReward")
        return model.eval()

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the standardised reward `(B,)` of pixels `(B, 3, S, S)`, CLIP-standardised, under their texts."""
        assert self.rating is not None
        first = read_beside(self.text, input_ids, attention_mask, self.vision(pixels).last_hidden_state)[:, 0]
        return (self.rating(first)[:, 0] - REWARD_MEAN) / REWARD_STD


def geometry(state: Mapping[str, Any]) -> dict[str, Any]:
    """Read the arguments off a published state, heads being 64 wide; empty where it is another network's."""
    shapes = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}
    blocks = {side: {m[1] for n in shapes if (m := re.match(pattern, n))} for side, pattern in _BLOCKS.items()}
    rating = [name for name in shapes if re.fullmatch(r"mlp\.layers\.\d+\.weight", name)]
    rating.sort(key=lambda name: int(name.split(".")[2]))
    try:
        width, _, patch, _ = shapes["blip.visual_encoder.patch_embed.proj.weight"]
        vocabulary, text_width = shapes["blip.text_encoder.embeddings.word_embeddings.weight"]
        return {
            "image_size": patch * round((shapes["blip.visual_encoder.pos_embed"][1] - 1) ** 0.5),
            "patch_size": patch,
            "vision_width": width,
            "vision_depth": len(blocks["vision"]),
            "vision_heads": max(1, width // 64),
            "text_width": text_width,
            "text_depth": len(blocks["text"]),
            "text_heads": max(1, text_width // 64),
            "text_hidden": shapes["blip.text_encoder.encoder.layer.0.intermediate.dense.weight"][0],
            "vocabulary": vocabulary,
            "positions": shapes["blip.text_encoder.embeddings.position_embeddings.weight"][0],
            "projection": shapes.get("blip.vision_proj.weight", (None,))[0],
            "rating_widths": tuple(shapes[name][0] for name in rating[:-1]) or None,
        }
    except (KeyError, ValueError, IndexError):
        return {}


_BLOCKS = {"vision": r"blip\.visual_encoder\.blocks\.(\d+)\.", "text": r"blip\.text_encoder\.encoder\.layer\.(\d+)\."}


def vision_encoder(image: int, patch: int, width: int, depth: int, heads: int) -> nn.Module:
    """Build BLIP's image encoder."""
    from transformers import BlipVisionConfig, BlipVisionModel

    return BlipVisionModel(
        BlipVisionConfig(
            image_size=image, patch_size=patch, hidden_size=width, intermediate_size=4 * width,
            num_hidden_layers=depth, num_attention_heads=heads, hidden_act="gelu", layer_norm_eps=1e-6,
        )
    )  # fmt: skip


def text_encoder(
    width: int, depth: int, heads: int, hidden: int, vocabulary: int, positions: int, vision_width: int
) -> nn.Module:
    """Build BLIP's text encoder with cross-attention to the image."""
    from transformers import BlipTextConfig, BlipTextModel

    config = BlipTextConfig(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=hidden,
        vocab_size=vocabulary, max_position_embeddings=positions, encoder_hidden_size=vision_width,
        hidden_act="gelu", layer_norm_eps=1e-12, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
        pad_token_id=0, bos_token_id=None, eos_token_id=None, sep_token_id=None, is_decoder=True,
    )  # fmt: skip
    return BlipTextModel(config, add_pooling_layer=False)


def read_beside(text: nn.Module, input_ids: Tensor, attention_mask: Tensor, image_tokens: Tensor) -> Tensor:
    """Return the tokens of texts that were read beside all tokens of their images."""
    everything = torch.ones(image_tokens.shape[:2], dtype=torch.long, device=image_tokens.device)
    return text(
        input_ids=input_ids,
        attention_mask=attention_mask,
        encoder_hidden_states=image_tokens,
        encoder_attention_mask=everything,
        is_decoder=False,  # bidirectional: built as a decoder only to get its cross-attention
    ).last_hidden_state


def semantic_view(image: Image.Image, size: int) -> Tensor:
    """Return `(1, 3, size, size)`: shorter side resized (bicubic), middle cut, CLIP-standardised."""
    from torchvision.transforms.v2 import functional as TF  # noqa: N812

    from grefine.models.clip_surgery import CLIP_MEAN, CLIP_STD

    small = TF.resize(image.convert("RGB"), [size], interpolation=TF.InterpolationMode.BICUBIC, antialias=True)
    pixels = TF.to_dtype(TF.pil_to_tensor(TF.center_crop(small, [size, size])), torch.float32, scale=True)
    return TF.normalize(pixels, list(CLIP_MEAN), list(CLIP_STD))[None]


REWARD_RENAMES = (
    *((rf"^blip\.visual_encoder\.{pattern.removeprefix('^')}", f"vision.{new}") for pattern, new in VISION_RENAMES),
    (r"^blip\.text_encoder\.", "text."),
    (r"^blip\.vision_proj\.", "vision_projection."),
    (r"^blip\.text_proj\.", "text_projection."),
    (r"^mlp\.layers\.", "rating."),
)
