"""Look at pictures through both maps, whoever provides them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from grefine.errors import ConfigError, ImageError
from grefine.types import AlignmentMap, ParsedPrompt, QualityMap

QualityProvider = Callable[[Sequence[Image.Image]], Sequence[QualityMap]]
"""`provider(images) -> one QualityMap per image`: your own heatmap in place of PQ-Map."""
AlignmentProvider = Callable[[Sequence[Image.Image], Sequence[ParsedPrompt]], Sequence[AlignmentMap]]
"""`provider(images, prompts) -> one AlignmentMap per image`: your own in place of AQ-Map."""


@dataclass
class Look:
    """Both maps over one encoding of the pictures; a provider replaces the map that it stands for."""

    pq: Any
    aq: Any
    quality: QualityProvider | None = None
    alignment: AlignmentProvider | None = None

    def __call__(
        self, images: Sequence[Image.Image], prompts: Sequence[ParsedPrompt | None]
    ) -> list[tuple[QualityMap, AlignmentMap]]:
        """Return both maps of every picture; without a prompt the second says that only p counts."""
        encoding = None if self.quality and (self.alignment or not any(prompts)) else self.pq.encode(images)
        if self.quality is not None:
            qualities = list(self.quality(images))
        else:
            qualities = self.pq(images, encoding=encoding)
        _check_maps(images, qualities, "quality")
        alignments = [unasked(image) for image in images]
        prompted = [index for index, prompt in enumerate(prompts) if prompt is not None]
        if prompted and (self.alignment is not None or self.aq is not None):
            asked = [prompts[index] or "" for index in range(len(images))]
            if self.alignment is not None:
                found = list(self.alignment(images, [p for p in prompts if p is not None]))
            else:
                found = self.aq(images, asked, encoding=encoding)
            for index in prompted:
                alignments[index] = found[index]
            _check_maps(images, alignments, "alignment")
        return list(zip(qualities, alignments, strict=True))

    def qualities(self, images: Sequence[Image.Image]) -> list[QualityMap] | None:
        """Return the quality maps of other pictures than the given ones."""
        qualities = self.pq(images) if self.quality is None else list(self.quality(images))
        _check_maps(images, qualities, "quality")
        return qualities

    def scores(self, images: Sequence[Image.Image], prompt: ParsedPrompt | None) -> list[dict[str, float]]:
        """Return p, and a where the prompt has something to judge, of every picture."""
        found = self(images, [prompt] * len(images))
        return [own_scores(quality, alignment) for quality, alignment in found]


def own_scores(quality: QualityMap, alignment: AlignmentMap) -> dict[str, float]:
    """Return the maps' own p and a as a record."""
    return {"p": quality.score} | ({} if alignment.score is None else {"a": alignment.score})


def unasked(image: Image.Image) -> AlignmentMap:
    """Return the alignment of a picture that nothing was asked of."""
    return AlignmentMap(np.ones((image.height, image.width), np.float32), None, (), "No prompt: only p counts.")


def _check_maps(images: Sequence[Image.Image], maps: Sequence[Any], name: str) -> None:
    if len(maps) != len(images):
        raise ConfigError(f"The {name} map provider returned {len(maps)} maps for {len(images)} images.")
    for image, found in zip(images, maps, strict=True):
        values = found.values
        if values.shape != (image.height, image.width):
            raise ImageError(
                f"A {name} map is {values.shape[1]}x{values.shape[0]} but its image is {image.width}x{image.height}: "
                "maps have the size of their image."
            )
        if not np.isfinite(values).all() or values.min() < -1e-3 or values.max() > 1 + 1e-3:
            raise ImageError(f"A {name} map must hold finite values in 0..1, high = good.")
