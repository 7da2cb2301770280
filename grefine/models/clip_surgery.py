"""CLIP with value-value attention: one image encoding that says what is where.

The towers have open_clip's names and values; the walk through them is ours. The last blocks run two streams: the
ordinary one, and a second that adds up each block's value-value attention (computed from the ordinary stream) without
feed-forward layers. The class token is read from the first, so it is exactly CLIP's; the patches from the second.

G-Refine (arXiv:2404.18343), Eq. 1; "CLIP Surgery" (arXiv:2304.05653).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from grefine.errors import ConfigError, ImageError, WeightsCorrupt
from grefine.models.clip_towers import ClipTowers, VisionTower
from grefine.models.component import ConfigMixin, ModelMixin, register_to_config
from grefine.models.reference import load_group
from grefine.types import Attention

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class ConvStem(nn.Sequential):
    """Small convolutions in place of the patch projection: same grid, but able to see blur, noise and block edges."""

    def __init__(self, patch_size: int, width: int) -> None:
        steps = round(math.log2(patch_size))
        if 2**steps != patch_size:
            raise ConfigError(f"A conv stem needs a patch size that is a power of two, not {patch_size}.")
        narrow = [max(8, 8 * round(0.75 * width * 2.0 ** (step - steps) / 8)) for step in range(1, steps + 1)]
        layers: list[nn.Module] = []
        for source, target in zip([3, *narrow], narrow, strict=False):
            layers += [nn.Conv2d(source, target, 3, stride=2, padding=1), nn.GELU()]
        layers += [nn.Conv2d(narrow[-1], narrow[-1], 3, padding=1), nn.GELU(), nn.Conv2d(narrow[-1], width, 1)]
        super().__init__(*layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    @property
    def weight(self) -> Tensor:
        """The first convolution's weight: encoders read the type of their input from the projection's."""
        return self[0].weight  # type: ignore[return-value]


class ClipSurgery(ModelMixin, ConfigMixin):
    """A CLIP whose patch tokens answer to text, for both quality maps."""

    @register_to_config
    def __init__(
        self,
        embed_dim: int = 512,
        image_size: int = 224,
        patch_size: int = 16,
        vision_width: int = 768,
        vision_layers: int = 12,
        vision_heads: int = 12,
        text_width: int = 512,
        text_layers: int = 12,
        text_heads: int = 8,
        context_length: int = 77,
        vocab_size: int = 49408,
        stem: Literal["patch", "conv"] = "patch",
        surgery_layers: int = 6,
        quick_gelu: bool = True,
        eos_token_id: int = 49407,
        image_mean: Sequence[float] = CLIP_MEAN,
        image_std: Sequence[float] = CLIP_STD,
    ) -> None:
        super().__init__()
        if vision_width % vision_heads:
            raise ConfigError(f"vision_width {vision_width} must be a multiple of vision_heads {vision_heads}.")
        if stem not in ("patch", "conv"):
            raise ConfigError(f"stem must be 'patch' or 'conv', not {stem!r}.")
        visual = VisionTower(embed_dim, image_size, patch_size, vision_width, vision_layers, vision_heads, quick_gelu)
        self.clip = ClipTowers(
            visual, embed_dim, context_length, vocab_size, text_width, text_layers, text_heads, quick_gelu
        )
        if stem == "conv":
            self.clip.visual.conv1 = ConvStem(patch_size, vision_width)
        self.side = image_size
        self.patch = patch_size
        self.surgery_layers = surgery_layers
        self.eos_token_id = eos_token_id
        self.context_length = context_length
        self.image_mean, self.image_std = tuple(image_mean), tuple(image_std)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches at the native input side."""
        return self.side // self.patch, self.side // self.patch

    @property
    def logit_scale(self) -> Tensor:
        """The learned scale of cosines as CLIP stores it: its logarithm."""
        return self.clip.logit_scale

    def preprocess(self, images: Tensor, side: int | None = None) -> Tensor:
        """Squash `images`, `(B, 3, H, W)` in 0..1, to `(B, 3, side, side)` and normalise; differentiable."""
        side = side or self.side
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bicubic", antialias=True, align_corners=False)
            images = images.clamp(0.0, 1.0)
        mean = images.new_tensor(self.image_mean).view(1, 3, 1, 1)
        std = images.new_tensor(self.image_std).view(1, 3, 1, 1)
        return (images - mean) / std

    def preprocess_pil(self, images: Sequence[Image.Image], side: int | None = None) -> Tensor:
        """Squash PIL images of any sizes with PIL's bicubic filter, as the released PQ-Map does, and normalise."""
        side = side or self.side
        rows = []
        for image in images:
            if 0 in image.size:
                raise ImageError(f"Cannot judge an image without pixels (size {image.size[0]}x{image.size[1]}).")
            # One direction at a time: Pillow rounds after each, and its versions disagree about which comes first.
            width, height = image.size
            first = (width, side) if height > max(width, side) else (side, height)
            half = image.convert("RGB").resize(first, Image.Resampling.BICUBIC)
            small = half.resize((side, side), Image.Resampling.BICUBIC)
            rows.append(torch.from_numpy(np.array(small, dtype=np.float32)).permute(2, 0, 1) / 255.0)
        return self.preprocess(torch.stack(rows), side).to(self.device, self.dtype)

    def forward(
        self,
        pixels: Tensor | None = None,
        *,
        ids: Tensor | None = None,
        embeddings: Tensor | None = None,
        eot: int | Tensor | None = None,
        attention: Attention = "usual",
        surgery_layers: int | None = None,
    ) -> Tensor:
        """Encode pixels, token ids or embeddings by the call itself, before which hooks move an offloaded module."""
        if pixels is not None:
            return self.encode_image(pixels, attention, surgery_layers)
        if ids is not None:
            return self.encode_text(ids)
        if embeddings is None or eot is None:
            raise ConfigError("Give pixels, ids, or embeddings with `eot`, the position of their end of text.")
        return self.encode_embeddings(embeddings, eot)

    def encode_image(
        self, pixels: Tensor, attention: Attention = "usual", surgery_layers: int | None = None
    ) -> Tensor:
        """Encode normalised `(B, 3, H, W)` pixels as `(B, 1 + N, D)` features, class token first. (Eq. 1)"""
        layers = self.surgery_layers if surgery_layers is None else surgery_layers
        if not 1 <= layers <= len(self.clip.visual.transformer.resblocks):
            raise ConfigError(f"surgery_layers must be from 1 to the blocks that this CLIP has, not {layers}.")
        visual = self.clip.visual
        original = self._embed_patches(pixels)
        blocks = list(visual.transformer.resblocks)
        first = len(blocks) - layers
        for block in blocks[:first]:
            original = _ordinary_block(block, original, causal=False)
        surgical = original
        for block in blocks[first:]:
            q, k, v = _query_key_value(block, original)
            seen = F.scaled_dot_product_attention(v, v, v)
            if attention == "printed":
                seen = F.scaled_dot_product_attention(F.normalize(v, dim=-1), v, v, scale=1.0)
            surgical = surgical + _project_heads(block, seen)
            original = original + _project_heads(block, F.scaled_dot_product_attention(q, k, v))
            original = original + block.mlp(block.ln_2(original))
        tokens = torch.cat([original[:, :1], surgical[:, 1:]], dim=1)
        return visual.ln_post(tokens) @ visual.proj

    def encode_text(self, ids: Tensor) -> Tensor:
        """Encode token ids `(B, L)`, each row with an end-of-text token, as `(B, D)` features, not normalised."""
        is_end = ids == self.eos_token_id
        if not bool(is_end.any(dim=1).all()):
            raise ConfigError(f"A row of token ids lacks this CLIP's end-of-text id {self.eos_token_id}.")
        ends = is_end.int().argmax(dim=1)
        return self.encode_embeddings(self.clip.token_embedding(ids), ends)

    def encode_embeddings(self, embeddings: Tensor, eot: int | Tensor) -> Tensor:
        """Encode token embeddings `(B, L, W)` as `(B, D)` features, read at position `eot` (one, or one per row)."""
        if embeddings.shape[1] > self.context_length:
            raise ConfigError(f"A text of {embeddings.shape[1]} tokens exceeds this CLIP's {self.context_length}.")
        ends = torch.as_tensor(eot, device=embeddings.device).expand(embeddings.shape[0])
        length = int(ends.max()) + 1
        positions = self.clip.positional_embedding[:length]
        x = embeddings[:, :length].to(positions.dtype) + positions
        for block in self.clip.transformer.resblocks:
            x = _ordinary_block(block, x, causal=True)
        x = x[torch.arange(x.shape[0], device=x.device), ends]
        return self.clip.ln_final(x) @ self.clip.text_projection

    @classmethod
    def from_reference(cls, state: Mapping[str, Any], **options: Any) -> "ClipSurgery":
        """Build from a state dict with OpenAI's or open_clip's names; `options` override what its shapes tell."""
        tensors = weights_of(state)
        model = cls(**(geometry(tensors) | options))
        load_group(model.clip, tensors, "CLIP")
        return model.eval()

    def _embed_patches(self, pixels: Tensor) -> Tensor:
        rows, columns = pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch
        if pixels.ndim != 4 or (rows * self.patch, columns * self.patch) != tuple(pixels.shape[-2:]) or not rows:
            raise ImageError(f"Pixels {tuple(pixels.shape)} are no (B, 3, H, W) in multiples of {self.patch}.")
        visual = self.clip.visual
        patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
        cls_token = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        positions = visual.positional_embedding
        if (rows, columns) != self.grid:
            square = positions[1:].T.reshape(1, -1, *self.grid)
            resized = F.interpolate(square.float(), (rows, columns), mode="bilinear", align_corners=False)
            positions = torch.cat([positions[:1], resized.to(positions.dtype).flatten(2)[0].T])
        return visual.ln_pre(torch.cat([cls_token, patches], dim=1) + positions.to(patches.dtype))


def weights_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a published state dict, some of which hold sizes, too."""
    sizes = ("input_resolution", "context_length", "vocab_size")
    return {key: torch.as_tensor(value).float() for key, value in state.items() if key not in sizes}


def geometry(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read a CLIP's configuration off the shapes of its state dict."""
    try:
        (width, _, _, patch), text_width = state["visual.conv1.weight"].shape, len(state["ln_final.weight"])
        vocabulary, length = len(state["token_embedding.weight"]), len(state["positional_embedding"])
        side = round(math.sqrt(len(state["visual.positional_embedding"]) - 1))
        embed_dim = state["text_projection"].shape[1]
    except KeyError as error:
        raise WeightsCorrupt(f"The state dict has no {error}: give a CLIP with a ViT in OpenAI's names.") from error
    layers = {
        tower: len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})
        for tower, prefix in (("vision", "visual.transformer.resblocks."), ("text", "transformer.resblocks."))
    }
    return {
        "embed_dim": embed_dim, "image_size": side * patch, "patch_size": patch, "vision_width": width,
        "vision_layers": layers["vision"], "vision_heads": max(1, width // 64), "text_width": text_width,
        "text_layers": layers["text"], "text_heads": max(1, text_width // 64), "context_length": length,
        "vocab_size": vocabulary, "eos_token_id": vocabulary - 1,
    }  # fmt: skip


def _query_key_value(block: Any, x: Tensor) -> list[Tensor]:
    """Return queries, keys and values of a block, each `(B, heads, L, head width)`."""
    attention = block.attn
    joint = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    return [part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in joint.chunk(3, dim=-1)]


def _project_heads(block: Any, heads: Tensor) -> Tensor:
    return block.attn.out_proj(heads.transpose(1, 2).flatten(2))


def _ordinary_block(block: Any, x: Tensor, causal: bool) -> Tensor:
    q, k, v = _query_key_value(block, x)
    x = x + _project_heads(block, F.scaled_dot_product_attention(q, k, v, is_causal=causal))
    return x + block.mlp(block.ln_2(x))
