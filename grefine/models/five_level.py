"""The five-level CLIP judge: how well does "a photo with {bad ... perfect} quality" fit a picture's windows?

"Learning from Model Rankings Improves Blind Super-Resolution Image Quality Assessment" (IEEE SMC 2025), the frozen
judge q_w; its ancestor is LIQE (arXiv:2303.14968)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError
from grefine.models.clip_surgery import CLIP_MEAN, CLIP_STD, geometry, weights_of
from grefine.models.reference import load_group

WINDOW = 224
STRIDE = 32
WIDE_STRIDE = 48
WIDE_SIDE = 1024
"""From this side on windows are `WIDE_STRIDE` apart."""
LONGEST_SHORT_SIDE = 768


def fitted(image: Image.Image) -> Image.Image:
    """Bring a picture to a size that windows fit on: short sides enlarged to 224, very large pictures reduced."""
    image = image.convert("RGB")
    width, height = image.size
    if min(width, height) < WINDOW:
        scale = max(WINDOW / width, WINDOW / height)
        width, height = round(width * scale), round(height * scale)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    short = min(width, height)
    if short >= LONGEST_SHORT_SIDE:
        # The longer side is cut, not rounded, to a whole pixel, as torchvision's Resize does.
        longer = int(LONGEST_SHORT_SIDE * max(width, height) / short)
        size = (LONGEST_SHORT_SIDE, longer) if width <= height else (longer, LONGEST_SHORT_SIDE)
        image = image.resize(size, Image.Resampling.BILINEAR)
    return image


def window_places(width: int, height: int) -> list[tuple[int, int]]:
    """Return (top, left) of every window, rows outer."""
    stride = WIDE_STRIDE if max(width, height) >= WIDE_SIDE else STRIDE
    rows, columns = range(0, height - WINDOW + 1, stride), range(0, width - WINDOW + 1, stride)
    return [(top, left) for top in rows for left in columns]


def spread_indices(n: int, count: int = 15, repeat: bool = False) -> list[int]:
    """Return `count` spread window numbers of n; with fewer each once or (`repeat`, as published) only the first."""
    if n < count and not repeat:
        return list(range(n))
    return [k * (n // count) for k in range(count)]


LEVELS = ("bad", "poor", "fair", "good", "perfect")
Features = Literal["patches", "embedding"]


@dataclass(frozen=True, slots=True)
class FiveLevelOutput:
    """The judgement of a batch of pictures."""

    logits: Tensor
    """`(B, 5)`, averaged over windows."""
    probabilities: Tensor
    """`(B, 5)`, bad to perfect."""
    quality: Tensor
    """`(B,)`, expected level, 1 (bad) to 5 (perfect)."""
    features: Tensor | None = None
    """`(B, tokens, width)` of the visual encoder, averaged over windows; what a rectifier reads."""


class FiveLevelCLIP(ModelMixin, ConfigMixin):
    """A CLIP that rates pictures by comparing their windows with five sentences."""

    @register_to_config
    def __init__(
        self,
        embed_dim: int = 512,
        image_size: int = 224,
        patch_size: int = 32,
        vision_width: int = 768,
        vision_layers: int = 12,
        vision_heads: int = 12,
        text_width: int = 512,
        text_layers: int = 12,
        text_heads: int = 8,
        context_length: int = 77,
        vocab_size: int = 49408,
        quick_gelu: bool = True,
        template: str = "a photo with {} quality",
        normalise: bool = True,
        windows: int = 15,
        repeat_windows: bool = False,
    ) -> None:
        """Build the judge without weights; the published demo does not `normalise`, its test has `repeat_windows`."""
        super().__init__()
        if "{}" not in template:
            raise ConfigError(f"The template must contain {{}} where the level goes, not {template!r}.")
        vision = {
            "image_size": image_size, "patch_size": patch_size, "width": vision_width, "layers": vision_layers,
            "head_width": vision_width // vision_heads,
        }  # fmt: skip
        text = {
            "context_length": context_length, "vocab_size": vocab_size, "width": text_width, "heads": text_heads,
            "layers": text_layers,
        }  # fmt: skip
        self.clip = open_clip.CLIP(embed_dim, vision, text, quick_gelu=quick_gelu)  # type: ignore[arg-type]
        self.clip.visual.output_tokens = True
        self.clip.logit_scale.requires_grad_(False)
        self.template, self.normalise = template, normalise
        self.windows, self.repeat_windows = windows, repeat_windows

    def prompts(self) -> list[str]:
        """Return the five sentences, bad to perfect."""
        return [self.template.format(level) for level in LEVELS]

    def token_ids(self) -> Tensor:
        """Return the sentences as CLIP token ids, `(5, context length)`."""
        return open_clip.tokenize(self.prompts(), context_length=self.config["context_length"])

    def text_features(self) -> Tensor:
        """Encode the five sentences as `(5, D)`, not normalised."""
        return self.clip.encode_text(self.token_ids().to(self.device))

    def forward(
        self, windows: Tensor, features: Features | None = None, text: Tensor | None = None
    ) -> FiveLevelOutput:
        """Judge windows `(B, windows, 3, 224, 224)` in 0..1; `text` is what `text_features` returned."""
        count = windows.shape[:2]
        pixels = windows.flatten(0, 1)
        if self.normalise:
            pixels = (pixels - pixels.new_tensor(CLIP_MEAN).view(3, 1, 1)) / pixels.new_tensor(CLIP_STD).view(3, 1, 1)
        pooled, tokens = self.clip.visual(pixels)
        text = self.text_features() if text is None else text
        cosine = torch.nn.functional.normalize(pooled, dim=-1) @ torch.nn.functional.normalize(text, dim=-1).T
        logits = (self.clip.logit_scale.exp() * cosine).unflatten(0, count).mean(1)
        probabilities = logits.softmax(-1)
        quality = probabilities @ torch.arange(1.0, len(LEVELS) + 1, device=logits.device, dtype=logits.dtype)
        kept = {None: None, "patches": tokens, "embedding": pooled[:, None]}[features]
        if kept is not None:
            kept = kept.unflatten(0, count).mean(1)
        return FiveLevelOutput(logits, probabilities, quality, kept)

    def read_windows(self, image: Image.Image, generator: torch.Generator | None = None, count: int = 3) -> Tensor:
        """Cut a picture into spread `(windows, 3, 224, 224)` in 0..1; for training `count` drawn, perhaps mirrored."""
        image = fitted(image)
        places = window_places(*image.size)
        if generator is None:
            chosen = spread_indices(len(places), self.windows, self.repeat_windows)
        else:
            if torch.rand((), generator=generator) < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            chosen = torch.randint(len(places), (count,), generator=generator).tolist()
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        cut = [places[number] for number in chosen]
        return torch.stack([pixels[:, top : top + WINDOW, left : left + WINDOW] for top, left in cut])

    @torch.no_grad()
    def judge(self, images: Sequence[Image.Image], features: Features | None = None) -> FiveLevelOutput:
        """Judge PIL images of any sizes, each by its own windows."""
        side = self.config["image_size"]
        if side != WINDOW:
            raise ConfigError(f"Pictures are judged in windows of {WINDOW}; this model takes {side}.")
        text = self.text_features()
        each = [self(self.read_windows(i)[None].to(self.device), features, text) for i in images]
        logits, probabilities, quality = (
            torch.cat([getattr(one, name) for one in each]) for name in ("logits", "probabilities", "quality")
        )
        kept = [one.features for one in each if one.features is not None]
        return FiveLevelOutput(logits, probabilities, quality, torch.cat(kept) if kept else None)

    @classmethod
    def from_reference(cls, groups: Mapping[str, Mapping[str, Any]], **options: Any) -> "FiveLevelCLIP":
        """Build from OpenAI CLIP state dicts, groups {clip}; the geometry is read from the shapes."""
        state = weights_of(groups.get("clip", {}))
        found = geometry(state)
        found.pop("eos_token_id")
        model = cls(**(found | options))
        load_group(model.clip, state, "FiveLevelCLIP group 'clip'")
        return model.eval()
