"""Bring your own map: an array, a file or a function stands in for PQ-Map or AQ-Map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine.errors import ConfigError, ImageError, PromptError
from grefine.indicators.aq_map import Prompt, parsed_prompt
from grefine.indicators.calibration import Calibration
from grefine.types import AlignmentMap, QualityMap

Heatmap = np.ndarray | str | Path | Image.Image
Source = Heatmap | Sequence[Heatmap] | Callable[..., Any]


class HeatmapQuality:
    """Quality maps of your own, with PQ-Map's calling convention.

    Args:
        source: one map, one per image, or a function of the image that returns one. A map is an `(H, W)` array in
            0..1 of the image's size, or an image file of that size whose grey is the value (white = 1; 16 bits kept).
        high_is: "good" or "bad".
        score: p from a map; None takes its mean.
    """

    def __init__(
        self, source: Source, *, high_is: str = "good", score: Callable[[np.ndarray], float] | None = None
    ) -> None:
        self.source, self.flip, self.score = source, _flip(high_is), score
        self.calibration = Calibration()

    def encode(self, images: Sequence[Image.Image]) -> None:
        """Return nothing: an own map needs no look by CLIP."""

    def __call__(self, images: Sequence[Image.Image], encoding: object = None) -> list[QualityMap]:
        """Return the maps of the images."""
        results = []
        for index, image in enumerate(images):
            values = _fetch(self.source, index, len(images), image, (image,), self.flip)
            p = float(values.mean()) if self.score is None else float(self.score(values))
            results.append(QualityMap(values, _checked_score(p)))
        return results


class HeatmapAlignment:
    """Alignment maps of your own, with AQ-Map's calling convention; a function gets the image and its prompt.

    `score` gives a from a map; None leaves a undefined, so that only p counts.
    """

    def __init__(
        self, source: Source, *, high_is: str = "good", score: Callable[[np.ndarray], float] | None = None
    ) -> None:
        self.source, self.flip, self.score = source, _flip(high_is), score
        self.calibration = Calibration()

    def encode(self, images: Sequence[Image.Image]) -> None:
        """Return nothing: an own map needs no look by CLIP."""

    def __call__(
        self, images: Sequence[Image.Image], prompts: Sequence[Prompt], encoding: object = None
    ) -> list[AlignmentMap]:
        """Return the maps of the images."""
        if len(prompts) != len(images):
            raise PromptError(f"One prompt per image is needed: got {len(prompts)} for {len(images)} images.")
        results = []
        for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            text = parsed_prompt(prompt).text if not isinstance(prompt, str) else prompt
            values = _fetch(self.source, index, len(images), image, (image, text), self.flip)
            a = None if self.score is None else _checked_score(float(self.score(values)))
            results.append(AlignmentMap(values, a, (), "The alignment map was given, not measured."))
        return results


def read_heatmap(given: Heatmap, size: tuple[int, int]) -> np.ndarray:
    """Return a map as `(H, W)` float32 in 0..1, checked against the image's `(width, height)`."""
    if isinstance(given, (str, Path)):
        values, name = _read_file(Path(given)), f"Heatmap '{given}'"
    else:
        values, name = _grey(given) if isinstance(given, Image.Image) else np.asarray(given), "The heatmap"
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
        raise ImageError(f"{name} has shape {values.shape}: expected (H, W) numbers.")
    values = values.astype(np.float32)
    if values.shape != (size[1], size[0]):
        raise ImageError(
            f"{name} is {values.shape[1]}x{values.shape[0]} but its image is {size[0]}x{size[1]}: resize it first."
        )
    if not np.isfinite(values).all():
        raise ImageError(f"{name} holds values that are not finite (NaN or infinite); it needs numbers in 0..1.")
    if values.min() < 0.0 or values.max() > 1.0:
        raise ImageError(f"{name} ranges from {values.min():g} to {values.max():g}; it needs numbers in 0..1.")
    return values


def _fetch(
    source: Source, index: int, count: int, image: Image.Image, arguments: tuple[Any, ...], flip: bool
) -> np.ndarray:
    if callable(source):
        given = source(*arguments)
    elif isinstance(source, (str, Path, np.ndarray, Image.Image)):
        given = source
        if count > 1:
            raise ConfigError(f"One heatmap was given for {count} images: give one per image, or a function.")
    elif isinstance(source, Mapping) or not isinstance(source, Sequence):
        raise ConfigError(
            f"A heatmap source must be a map, a list of maps or a function, not {type(source).__name__}."
        )
    elif len(source) != count:
        raise ConfigError(f"{len(source)} heatmaps were given for {count} images: give one per image.")
    else:
        given = source[index]
    values = read_heatmap(given, image.size)
    return 1.0 - values if flip else values


def _read_file(path: Path) -> np.ndarray:
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        with Image.open(path) as image:
            image.load()
            return _grey(image)
    except (OSError, ValueError) as error:
        raise ImageError(f"Cannot read the heatmap '{path}': {error}. Give a .npy array or a grey image.") from error


def _grey(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        return np.asarray(image, dtype=np.float32) / 65535.0
    return np.asarray(image.convert("L"), dtype=np.float32) / 255.0


def _flip(high_is: str) -> bool:
    if high_is not in ("good", "bad"):
        raise ConfigError(f"high_is must be 'good' or 'bad', not {high_is!r}.")
    return high_is == "bad"


def _checked_score(value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"The score of a heatmap must lie in 0..1, not {value}.")
    return value
