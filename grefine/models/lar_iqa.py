"""LAR-IQA: a light no-reference scorer that looks at the whole picture small and at its middle in full size.

After "LAR-IQA: A Lightweight, Accurate, and Robust No-Reference Image Quality Assessment Model" and the released code
nasimjamshidi/LAR-IQA at 792f2f1."""

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from PIL import Image
from torch import Tensor, nn

from grefine.errors import ConfigError, WeightsCorrupt, in_words, nearest
from grefine.models.mdiqa_blocks import imagenet, pad_to
from grefine.models.reference import load_reference, rename

ColorSpace = Literal["RGB", "HSV", "LAB", "YUV"]
COLOR_SPACES: tuple[str, ...] = get_args(ColorSpace)


def convert(rgb: np.ndarray, space: str) -> np.ndarray:
    """Return `(H, W, 3)` uint8 in another colour space; hue is in 0..179."""
    if space not in _CONVERSIONS:
        raise ConfigError(f"No colour space '{space}': {', '.join(COLOR_SPACES)}{nearest(space, COLOR_SPACES)}")
    return _CONVERSIONS[space](rgb)


def _yuv(rgb: np.ndarray) -> np.ndarray:
    r, g, b = np.moveaxis(rgb.astype(np.int64), -1, 0)
    half, middle = 1 << 13, 128 << 14
    y = (4899 * r + 9617 * g + 1868 * b + half) >> 14
    u = ((b - y) * 8061 + middle + half) >> 14
    v = ((r - y) * 14369 + middle + half) >> 14
    return np.stack([y, u, v], axis=-1).clip(0, 255).astype(np.uint8)


def _hsv(rgb: np.ndarray) -> np.ndarray:
    r, g, b = np.moveaxis(rgb.astype(np.int64), -1, 0)
    value = np.maximum(np.maximum(r, g), b)
    spread = value - np.minimum(np.minimum(r, g), b)
    steps = np.arange(1, 256)
    by_value = np.concatenate([[0], np.rint(255 * 4096 / steps)]).astype(np.int64)
    by_spread = np.concatenate([[0], np.rint(180 * 4096 / (6 * steps))]).astype(np.int64)
    saturation = (spread * by_value[value] + (1 << 11)) >> 12
    sector = np.where(value == r, g - b, np.where(value == g, b - r + 2 * spread, r - g + 4 * spread))
    hue = (sector * by_spread[spread] + (1 << 11)) >> 12
    hue = np.where(hue < 0, hue + 180, hue)
    return np.stack([hue, saturation, value], axis=-1).clip(0, 255).astype(np.uint8)


@cache
def _lab_tables() -> tuple[np.ndarray, np.ndarray]:
    share = np.arange(256) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    t = np.arange(256 * 8 * 3 // 2) / 2040
    root = np.where(t < 0.008856, 7.787 * t + 16 / 116, np.cbrt(t))
    return np.rint(255 * 8 * linear).astype(np.int64), np.rint(32768 * root).astype(np.int64)


def _lab(rgb: np.ndarray) -> np.ndarray:
    linear, root = _lab_tables()
    r, g, b = (linear[rgb[..., i]] for i in range(3))
    rows = ((1777, 1541, 778), (871, 2929, 296), (73, 448, 3575))
    fx, fy, fz = (root[(cr * r + cg * g + cb * b + 2048) >> 12] for cr, cg, cb in rows)
    half, middle = 1 << 14, 128 << 15
    light = (296 * fy - 1336935 + half) >> 15
    red = (500 * (fx - fy) + middle + half) >> 15
    blue = (200 * (fy - fz) + middle + half) >> 15
    return np.stack([light, red, blue], axis=-1).clip(0, 255).astype(np.uint8)


_CONVERSIONS = {"RGB": lambda rgb: rgb, "HSV": _hsv, "LAB": _lab, "YUV": _yuv}


class KANLayer(nn.Module):
    """Sum a base term and a learned spline per input: y = base silu(x) + spline scaler B(x)."""

    grid: Tensor

    def __init__(self, inputs: int, outputs: int, intervals: int = 5, order: int = 3) -> None:
        super().__init__()
        self.order = order
        step = 2.0 / intervals
        knots = torch.arange(-order, intervals + order + 1, dtype=torch.float32) * step - 1.0
        self.register_buffer("grid", knots.expand(inputs, -1).contiguous())
        self.base_weight = nn.Parameter(torch.empty(outputs, inputs))
        self.spline_weight = nn.Parameter(torch.empty(outputs, inputs, intervals + order))
        self.spline_scaler = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.spline_scaler, a=math.sqrt(5))
        # The splines start as the least-squares fit of a little noise at the inner knots, the same for every input.
        bases = bspline_bases(self.grid[:1, order : order + intervals + 1].T, self.grid[:1], order)[:, 0]
        values = (torch.rand(outputs, inputs, intervals + 1) - 0.5) * 0.1 / intervals
        with torch.no_grad():
            self.spline_weight.copy_(values @ torch.linalg.pinv(bases).T)

    def forward(self, x: Tensor) -> Tensor:
        base = F.linear(F.silu(x), self.base_weight)
        bases = bspline_bases(x, self.grid, self.order).flatten(-2)
        weight = (self.spline_weight * self.spline_scaler[..., None]).flatten(1)
        return base + F.linear(bases, weight)


def bspline_bases(x: Tensor, grid: Tensor, order: int) -> Tensor:
    """Evaluate all B-splines of `order` by the Cox-de Boor recursion, zero beyond the outer knots."""
    x = x[..., None]
    bases = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for k in range(1, order + 1):
        rising = (x - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)])
        falling = (grid[:, k + 1 :] - x) / (grid[:, k + 1 :] - grid[:, 1:-k])
        bases = rising * bases[..., :-1] + falling * bases[..., 1:]
    return bases


_RENAMES = (
    (r"^syntetic\.", "synthetic."),
    (r"^aut_up\.", "authentic_head.1."),
    (r"^syn_up\.", "synthetic_head.1."),
    (r"^aut_dw\.layers\.0\.", "authentic_head."),
    (r"^syn_dw\.layers\.0\.", "synthetic_head."),
    (r"^head\.layers\.0\.", "head."),
    (r"^aut_dw\.", "authentic_head.3."),
    (r"^syn_dw\.", "synthetic_head.3."),
)


class LARIQA(ModelMixin, ConfigMixin):
    """Regress one unbounded quality score from two views of an image.

    Both branches have the classifier of `encoder`, a name of timm: its logits are their `features`, of which each
    gives `reduced` to the common head. One sees the whole picture as a square of `whole_size`, the other a centre crop
    at full scale; smaller pictures are padded with black. The published `crop_size` 1280 is for photographs of several
    megapixels: use one near your own pictures' size for anything smaller.
    """

    @register_to_config
    def __init__(
        self,
        encoder: str = "mobilenetv3_large_100",
        encoder_options: dict[str, Any] | None = None,
        features: int = 1000,
        branch_head: Literal["mlp", "kan"] = "mlp",
        expanded: int = 3100,
        reduced: int = 512,
        whole_size: int = 384,
        crop_size: int = 1280,
        color_space: str = "RGB",
    ) -> None:
        super().__init__()
        import timm

        if branch_head not in ("mlp", "kan"):
            raise ConfigError(f"branch_head must be mlp or kan, not '{branch_head}'.")
        options = {"num_classes": features, **(encoder_options or {})}
        self.authentic = timm.create_model(encoder, pretrained=False, **options)
        self.synthetic = timm.create_model(encoder, pretrained=False, **options)
        if branch_head == "kan":
            self.authentic_head: nn.Module = KANLayer(features, reduced)
            self.synthetic_head: nn.Module = KANLayer(features, reduced)
            self.head: nn.Module = KANLayer(2 * reduced, 1)
        else:
            self.authentic_head = _mlp(features, expanded, reduced)
            self.synthetic_head = _mlp(features, expanded, reduced)
            self.head = nn.Linear(2 * reduced, 1)

    @classmethod
    def from_reference(cls, groups: Mapping[str, Mapping[str, Any]], **options: Any) -> "LARIQA":
        """Build the model from the published state dict, the group "model"; its keys tell the kind of head."""
        kind = "kan" if any(key.startswith("aut_dw.layers.") for key in groups.get("model", {})) else "mlp"
        model = cls(**{"branch_head": kind, **options})
        load_reference({"model": model}, {name: rename(s, _RENAMES) for name, s in groups.items()}, "LAR-IQA")
        return model.eval()

    def views(
        self, image: Image.Image, color_space: str | None = None, crop_size: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the two views `(1, 3, S, S)` of an RGB picture, standardised."""
        config, space = self.config, color_space or self.config["color_space"]
        return (
            branch_view(image, "authentic", space, config["whole_size"]),
            branch_view(image, "synthetic", space, crop_size or config["crop_size"]),
        )

    def forward(self, whole: Tensor, crop: Tensor) -> Tensor:
        """Return scores `(B,)` from standardised views `(B, 3, S, S)`."""
        authentic = self.authentic_head(self.authentic(whole))
        synthetic = self.synthetic_head(self.synthetic(crop))
        return self.head(torch.cat([authentic, synthetic], dim=-1))[:, 0]


class LARBranch(nn.Module):
    """One branch, "authentic" (the whole) or "synthetic" (its middle), with a linear head for each set of opinions."""

    def __init__(
        self,
        part: str,
        encoder: str,
        features: int,
        size: int,
        encoder_options: Mapping[str, Any] | None = None,
        color_space: str = "RGB",
        heads: int = 1,
    ) -> None:
        super().__init__()
        import timm

        self.config = {"part": part, "crop_size": size, "color_space": color_space}
        self.encoder = timm.create_model(
            encoder, pretrained=False, **{"num_classes": features, **(encoder_options or {})}
        )
        self.heads = nn.ModuleList(nn.Linear(features, 1) for _ in range(heads))

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "LARBranch":
        """Build the branch that a part.json describes, with fresh weights."""
        size = about["whole_size" if about["part"] == "authentic" else "crop_size"]
        named = {name: about[name] for name in ("encoder_options", "color_space") if name in about}
        return cls(about["part"], about["encoder"], about["features"], size, heads=len(about["sets"]), **named)

    @classmethod
    def load(cls, folder: Path) -> "LARBranch":
        """Read what the first stage wrote."""
        from safetensors.torch import load_file

        try:
            branch = cls.of(json.loads((folder / "part.json").read_text(encoding="utf-8")))
            branch.encoder.load_state_dict(load_file(folder / "model.safetensors"))
            branch.heads.load_state_dict(load_file(folder / "heads" / "model.safetensors"))
        except (KeyError, OSError, ValueError, RuntimeError) as error:
            said = f"'{folder}' holds no branch of LAR-IQA ({in_words(error)}): `grefine train lar-iqa` makes one."
            raise WeightsCorrupt(said) from error
        return branch.eval()

    def views(self, image: Image.Image, color_space: str | None = None, crop_size: int | None = None) -> tuple[Tensor]:
        """Return its one view `(1, 3, S, S)` of an RGB picture, standardised."""
        space, size = color_space or self.config["color_space"], crop_size or self.config["crop_size"]
        return (branch_view(image, self.config["part"], space, size),)

    def forward(self, images: Tensor, source: int = 0) -> Tensor:
        """Return scores `(B,)` by the head of one set."""
        return self.heads[source](F.relu(self.encoder(images)))[:, 0]


def branch_view(image: Image.Image, part: str, space: str, size: int) -> Tensor:
    """Return what a branch sees, `(1, 3, size, size)`: the whole picture made small, or its middle."""
    pixels = Image.fromarray(convert(np.asarray(image.convert("RGB")), space))
    if part == "authentic":
        seen = pixels.resize((size, size), Image.Resampling.BILINEAR)
    else:
        seen = centre_crop(pixels, size)
    return imagenet(torch.from_numpy(np.array(seen)).permute(2, 0, 1)[None].float() / 255)


def _mlp(inputs: int, expanded: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Linear(inputs, expanded), nn.ReLU(), nn.Linear(expanded, outputs), nn.ReLU())


def centre_crop(image: Image.Image, side: int) -> Image.Image:
    """Cut the middle square; what is shorter gets black borders first, the odd pixel at the end."""
    image = pad_to(image, side)
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)  # half to even
    return image.crop((left, top, left + side, top + side))
