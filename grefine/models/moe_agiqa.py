"""MoE-AGIQA: quality of a generated image under its prompt, by a mixture of experts (versions 1 and 2).

After "MoE-AGIQA: Mixture-of-Experts Boosted Visual Perception-Driven and Semantic-Aware Quality Assessment for
AI-Generated Images" and the released code 37s/MoE-AGIQA at 0d9feb6.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image
from torch import Tensor, nn

from grefine.errors import ConfigError
from grefine.models.clip_surgery import ConvStem
from grefine.models.mdiqa_blocks import pad_to
from grefine.models.moe_agiqa_head import MoEHead, Ratings
from grefine.models.reference import load_reference, rename
from grefine.models.reward import POSITION_IDS, REWARD_RENAMES, read_beside, text_encoder, vision_encoder

_HEAD_RENAMES = (
    (r"^proj$", "text_projection"),
    (r"^proj_prior$", "prior.project"),
    (r"^weight1$", "prior.plain"),
    (r"^weight2$", "prior.gated"),
    (r"^fc\.", "prior.gate."),
    (r"^down_channel\.", "down."),
    (r"^conv\.0\.", "conv."),
    (r"^cross_attention\.to_out\.0\.", "attention.to_out."),
    (r"^cross_attention\.", "attention."),
    (r"^norm1\.", "norm_image."),
    (r"^norm2\.", "norm_text."),
    (r"^gating_network\.0\.", "gating."),
    (r"^proj_experts\.(\d+)\.project\.", r"experts.\1."),
)
_REWARD_UNUSED = re.compile(rf"^mlp\.|^blip\.(vision|text)_proj\.|{POSITION_IDS.pattern}")


class MoEAGIQA(ModelMixin, ConfigMixin):
    """Rate a generated image under its prompt; the mean over several crops is the score.

    `crop_*` are of the ViT that sees the crops: outputs of the blocks `taps` are stacked, later ones are not built.
    `prior_depth` is of the second ViT, which carries the quality prior (version 2; None is version 1). `image_size` to
    `vision_heads` are of the image encoder that the prompt reads, `text_width` to `text_length` of the prompt encoder,
    `width` to `chosen` of the head, `crops` and `seed` of an evaluation. `outputs` names what is rated; the published
    networks rate quality alone. The stem "conv" lets a small network see blur and noise.
    """

    @register_to_config
    def __init__(
        self,
        crop_size: int = 224,
        crop_patch: int = 16,
        crop_width: int = 768,
        crop_heads: int = 12,
        taps: tuple[int, ...] = (4, 5, 6, 7),
        prior_depth: int | None = None,
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
        width: int = 512,
        heads: int = 8,
        reduced: int | None = None,
        prior_hidden: int = 128,
        experts: int = 4,
        chosen: int = 3,
        outputs: tuple[str, ...] = ("quality",),
        crops: int = 15,
        seed: int = 20,
        stem: Literal["patch", "conv"] = "patch",
    ) -> None:
        super().__init__()
        if stem not in ("patch", "conv"):
            raise ConfigError(f"stem must be 'patch' or 'conv', not {stem!r}.")
        self.vit = vit(crop_size, crop_patch, crop_width, max(taps) + 1, crop_heads, final_norm=False)
        self.vit_prior = None
        if prior_depth is not None:
            self.vit_prior = vit(crop_size, crop_patch, crop_width, prior_depth, crop_heads, final_norm=True)
        self.vision = vision_encoder(image_size, patch_size, vision_width, vision_depth, vision_heads)
        self.text = text_encoder(text_width, text_depth, text_heads, text_hidden, vocabulary, positions, vision_width)
        if stem == "conv":
            for model in (self.vit, self.vit_prior):
                if model is not None:
                    model.patch_embed.proj = ConvStem(crop_patch, crop_width)
            self.vision.embeddings.patch_embedding = ConvStem(patch_size, vision_width)
        self.head = MoEHead(
            features=crop_width * len(taps),
            reduced=reduced or crop_width,
            text=text_width,
            width=width,
            heads=heads,
            experts=experts,
            chosen=chosen,
            outputs=len(outputs),
            prior=None if prior_depth is None else crop_width,
            grid=crop_size // crop_patch,
            prior_hidden=prior_hidden,
        )

    @classmethod
    def from_reference(cls, groups: Mapping[str, Mapping[str, Any]], **options: Any) -> "MoEAGIQA":
        """Build the model from state dicts as the published code writes them."""
        if "vit_prior" in groups:
            options = {"prior_depth": 12, **options}
        model = cls(**options)
        reward = nn.ModuleDict({"vision": model.vision, "text": model.text})
        modules: dict[str, nn.Module] = {"regressor": model.head, "reward": reward, "vit": model.vit}
        if model.vit_prior is not None:
            modules["vit_prior"] = model.vit_prior
        unbuilt = re.compile(rf"^(head|norm)\.|^blocks\.({'|'.join(map(str, range(len(model.vit.blocks), 100)))})\.")
        rules = {
            "regressor": (_HEAD_RENAMES, None),
            "reward": (REWARD_RENAMES, _REWARD_UNUSED),
            "vit": ((), unbuilt),
            "vit_prior": ((), re.compile(r"^head\.")),
        }
        states = {name: rename(state, *rules.get(name, ((), None))) for name, state in groups.items()}
        load_reference(modules, states, "MoE-AGIQA")
        return model.eval()

    @property
    def grid(self) -> int:
        """Positions per side of a crop."""
        return self.config["crop_size"] // self.config["crop_patch"]

    def crop_features(self, crops: Tensor) -> Tensor:
        """Return the stacked outputs `(N, C, h, w)` of the tapped blocks for crops `(N, 3, S, S)` in 0..1."""
        taps = tuple(self.config["taps"])
        vit: Any = self.vit
        x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(crops))))
        kept: dict[int, Tensor] = {}
        for index, block in enumerate(self.vit.blocks):
            x = block(x)
            if index in taps:
                kept[index] = x[:, 1:]
        stacked = torch.cat([kept[tap] for tap in taps], dim=-1)
        return stacked.transpose(1, 2).unflatten(2, (self.grid, self.grid))

    def prior_features(self, crops: Tensor) -> Tensor | None:
        """Return the quality prior's class token `(N, width)`; None in version 1."""
        return None if self.vit_prior is None else self.vit_prior.forward_features(crops)[:, 0]

    def encode_prompt(self, view: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the prompt's tokens `(B, length, width)` after reading the whole image."""
        return self.read_prompt(self.vision(view).last_hidden_state, input_ids, attention_mask)

    def read_prompt(self, image_tokens: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the prompt's tokens given an image that is already encoded."""
        return read_beside(self.text, input_ids, attention_mask, image_tokens)

    def forward(self, crops: Tensor, view: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Ratings:
        """Rate crops `(B, n, 3, S, S)` in 0..1 (not standardised, as published) of images seen whole in `view`."""
        batch, count = crops.shape[:2]
        flat = crops.flatten(0, 1)
        prior = self.prior_features(flat)
        return self.head(
            self.crop_features(flat).unflatten(0, (batch, count)),
            self.encode_prompt(view, input_ids, attention_mask),
            None if prior is None else prior.unflatten(0, (batch, count)),
        )

    def cut_crops(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        """Return the distinct crops `(n, 3, S, S)` in 0..1 of an evaluation and how often each was drawn."""
        size = self.config["crop_size"]
        padded = pad_to(image.convert("RGB"), size)
        offsets, counts = np.unique(
            random_offsets(padded.height, padded.width, size, self.config["crops"], self.config["seed"]),
            axis=0,
            return_counts=True,
        )
        pixels = np.asarray(padded)
        crops = np.stack([pixels[top : top + size, left : left + size] for top, left in offsets])
        planes = torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous()
        return planes.float() / 255, torch.from_numpy(counts)


def vit(size: int, patch: int, width: int, depth: int, heads: int, final_norm: bool) -> nn.Module:
    """Build timm's plain ViT without its classifier."""
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(
        img_size=size, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, num_classes=0
    )
    if not final_norm:
        model.norm = nn.Identity()
    return model


def random_offsets(height: int, width: int, size: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Draw (top, left) of crops as torchvision's RandomCrop does after seeding; one when only one is possible."""
    if (height, width) == (size, size):
        return [(0, 0)]
    generator = torch.Generator().manual_seed(seed)
    draw = [
        torch.randint(0, room + 1, (1,), generator=generator).item()
        for _ in range(count)
        for room in (height - size, width - size)
    ]
    return [(int(top), int(left)) for top, left in zip(draw[::2], draw[1::2], strict=True)]
