"""PQ-Map: where an image is good, and how good it is as a whole, without its prompt.

G-Refine (arXiv:2404.18343), Eq. 1-3, and the procedure its authors released (`map_mode="released"`).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from grefine.errors import ConfigError
from grefine.indicators.calibration import Calibration, MapMode, PMode, check_belongs
from grefine.indicators.encoding import MOST_TILES, Encoding, encode_images, factor_logits, fingerprint, min_max
from grefine.indicators.grids import GridMap
from grefine.indicators.readings import Readings
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import FACTORS, PQPrompts
from grefine.types import FeatureNorm, QualityMap


def cask(probabilities: Tensor, alpha: Tensor) -> Tensor:
    """Combine `(..., 4)` factor probabilities: overall times the staves of the cask that are too short. (Eq. 3)"""
    return probabilities[..., 0] * (probabilities[..., 1:] / alpha).clamp(max=1.0).prod(dim=-1)


class PQMap:
    """A view of a CLIP and its learned prompts: images in, quality maps out.

    Args:
        clip: the CLIP with value-value attention.
        prompts: its learned prompts.
        side: input side of the map's pass in "paper" mode (a finer grid); None takes the calibration's.
        tiles: most tiles along each side of a large picture in "paper" mode; 1 turns them off.
        calibration: as `grefine calibrate` writes it; None uses the paper's constants.
        batch_size: images per forward pass.
        readings: how the paper's open places are read, a `Readings` or a dictionary with some of its keys; maps of the
            `map_mode` "paper" can be compared between images, "released" ones are stretched to 0..1 within each.
    """

    def __init__(
        self,
        clip: ClipSurgery,
        prompts: PQPrompts,
        *,
        side: int | None = None,
        tiles: int = MOST_TILES,
        calibration: Calibration | Mapping[str, Any] | None = None,
        batch_size: int = 8,
        readings: Readings | Mapping[str, Any] | None = None,
    ) -> None:
        self.clip, self.prompts = clip, prompts
        self.calibration = Calibration.of(calibration)
        check_belongs(self.calibration, clip)
        self.readings = readings = Readings.read(readings)
        self.map_mode: MapMode = readings.map_mode or self.calibration.map_mode
        self.p_mode: PMode = readings.p_mode
        self.feature_norm: FeatureNorm = readings.feature_norm or prompts.config["feature_norm"]
        self.bounds = _three("bounds", readings.bounds)
        means = _three("alpha", readings.alpha or self.calibration.alpha)
        self.alpha = tuple(mean * bound for mean, bound in zip(means, self.bounds, strict=True))
        released = self.map_mode == "released"
        if released and side not in (None, clip.side):
            raise ConfigError("A finer grid (side) needs map_mode 'paper': the released map is stretched per image.")
        self.side = None if released else side or self.calibration.side
        self.tiles = 1 if released else tiles
        self.batch_size = batch_size
        self._text: tuple[Any, Tensor] | None = None

    @classmethod
    def from_reference(
        cls,
        groups: Mapping[str, Mapping[str, Any]],
        *,
        geometry: Mapping[str, Any] | None = None,
        readings: Mapping[str, Any] | None = None,
    ) -> "PQMap":
        """Build from published state dicts, `clip` in OpenAI's names and `prompts`; `readings` are the released ones.

        `geometry` overrides what is read off the shapes (e.g. `vision_heads` when heads are not 64 wide).
        """
        lacking = [name for name in ("clip", "prompts") if name not in groups]
        if lacking:
            raise ConfigError(f"PQMap needs the state dicts 'clip' and 'prompts'; missing: {', '.join(lacking)}.")
        return cls(
            ClipSurgery.from_reference(groups["clip"], **(geometry or {})),
            PQPrompts.from_reference(groups["prompts"]),
            readings={"map_mode": "released", "feature_norm": "token", **(readings or {})},
        )

    def encode(self, images: Sequence[Image.Image]) -> Encoding:
        """Look at the images once; AQ-Map can read the same encoding."""
        return encode_images(self.clip, images, self.readings, self.side, self.tiles, self.batch_size)

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image], encoding: Encoding | None = None) -> list[QualityMap]:
        """Judge images of any sizes."""
        encoding = encoding or self.encode(images)
        if len(images) != len(encoding):
            raise ConfigError(f"The encoding is of {len(encoding)} images, but {len(images)} were given.")
        logits = self._logits(encoding.whole)
        chances = logits[:, 0].softmax(dim=-1)[..., 0]
        factors = self._factors(logits[:, 0])
        scores = factors[:, 0]
        if self.p_mode == "multi":
            scores = cask(factors, factors.new_tensor(self.alpha)) / self._scale("score_scale")
        scores = scores.clamp(0.0, 1.0)
        draw = self._released_map if self.map_mode == "released" else partial(self._paper_map, self.text_features())
        return [
            QualityMap(
                draw(encoding, index, logits[index]).draw(),
                float(scores[index]),
                dict(zip(FACTORS, chances[index].tolist(), strict=True)),
            )
            for index in range(len(encoding))
        ]

    @torch.no_grad()
    def text_features(self) -> Tensor:
        """Return the encoded prompts `(4, 2, D)`; they are encoded again only when weights change. (Eq. 2)"""
        key = fingerprint(self.clip, self.prompts)
        if self._text is None or self._text[0] != key:
            self._text = key, self.prompts(self.clip).float()
        return self._text[1]

    @torch.no_grad()
    def chances(self, features: Tensor) -> Tensor:
        """Return `(B, 1 + N, 4)`: how likely each token is to be good, by factor. (Eq. 3)"""
        return self._logits(features).softmax(dim=-1)[..., 0]

    def _factors(self, logits: Tensor) -> Tensor:
        """Return what Eq. 3 multiplies, of logits `(..., 4, 2)`: by the letter a difference, which can be negative."""
        if self.readings.factors == "difference":
            return logits[..., 0] - logits[..., 1]
        return logits.softmax(dim=-1)[..., 0]

    def _scale(self, name: str) -> float:
        """Return what a calibration divides by; it was measured on chances."""
        return getattr(self.calibration, name) if self.readings.factors == "logistic" else 1.0

    def _logits(self, features: Tensor, text: Tensor | None = None) -> Tensor:
        text = self.text_features() if text is None else text
        return factor_logits(features, text.to(features.device), self.feature_norm)

    def _released_map(self, encoding: Encoding, index: int, logits: Tensor) -> GridMap:
        good = min_max(logits[1:, 0, 0].reshape(self.clip.grid))
        width, height = encoding.sizes[index]
        return GridMap((((0, 0, width, height), good.cpu().numpy()),), (width, height), "bilinear")

    def _paper_map(self, text: Tensor, encoding: Encoding, index: int, logits: Tensor) -> GridMap:
        alpha, scale = logits.new_tensor(self.alpha), self._scale("map_scale")
        factors = [self._factors(self._logits(seen[None], text)[0, 1:]) for _, seen in encoding.views[index]]
        cells = [(cask(one, alpha) / scale).clamp(max=1.0) for one in factors]
        return encoding.grid_map(index, cells, "bicubic")


def _three(name: str, values: Sequence[float]) -> tuple[float, ...]:
    if len(values) != 3 or any(not 0.0 < v <= 10.0 for v in values):
        raise ConfigError(f"{name} must be three positive numbers (technical, rational, natural), not {values!r}.")
    return tuple(float(v) for v in values)
