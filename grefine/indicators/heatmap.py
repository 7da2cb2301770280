"""Bring your own map: an array, a file, a folder or a function stands in for PQ-Map or AQ-Map."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine.errors import ConfigError, ImageError, PromptError
from grefine.indicators.aq_map import Prompt, parsed_prompt
from grefine.types import AlignmentMap, QualityMap

Heatmap = np.ndarray | str | Path | Image.Image
Source = Heatmap | Sequence[Heatmap] | Callable[..., Any]
"""A map, a list of maps, a folder of them, or a function that draws one."""
ENDINGS = (".npy", ".png", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
"""Of files that can be maps, the most exact first."""


class _Heatmaps:
    """What own maps of both kinds share."""

    kind = ""

    def __init__(
        self, source: Source, *, high_is: str = "good", score: Callable[[np.ndarray], float] | None = None
    ) -> None:
        if high_is not in ("good", "bad"):
            raise ConfigError(f"high_is must be 'good' or 'bad', not {high_is!r}.")
        self.source, self.flip, self.score = source, high_is == "bad", score

    @property
    def given(self) -> bool:
        """Whether the maps were made beforehand, so that they say nothing of any other picture."""
        return not callable(self.source)

    def encode(self, images: Sequence[Image.Image]) -> None:
        """Return nothing: an own map needs no look by CLIP."""

    def _maps(self, images: Sequence[Image.Image], *others: Sequence[Any]) -> list[np.ndarray]:
        """Return one checked map per image, high = good; a function gets the image and its share of `others`."""
        if callable(self.source):
            given = [self.source(*arguments) for arguments in zip(images, *others, strict=True)]
        else:
            given = _spread(self.source, images, self.kind)
        values = [read_heatmap(one, image.size) for one, image in zip(given, images, strict=True)]
        return [1.0 - one for one in values] if self.flip else values


class HeatmapQuality(_Heatmaps):
    """Quality maps of your own, with PQ-Map's calling convention; `score` gives p from a map, else its mean is p.

    The source is one map, one per image, a folder of maps, or a function of the image that returns one. A map is an
    `(H, W)` array in 0..1 of the image's size, or an image file of that size whose grey is the value (white = 1; 16
    bits kept). In a folder the map of "a.png" is "a.npy" or "a.png", or what `grefine map` wrote for it; images
    without a file name get the maps in the order of their names.
    """

    kind = "quality"

    def __call__(self, images: Sequence[Image.Image], encoding: object = None) -> list[QualityMap]:
        """Return the maps of the images."""
        maps = self._maps(images)
        scores = [float(m.mean()) if self.score is None else _checked_score(float(self.score(m))) for m in maps]
        return [QualityMap(values, score) for values, score in zip(maps, scores, strict=True)]


class HeatmapAlignment(_Heatmaps):
    """Alignment maps of your own, with AQ-Map's calling convention; a function gets the image and its prompt.

    `score` gives a from a map; None leaves a undefined, so that only p counts.
    """

    kind = "alignment"

    def __call__(
        self, images: Sequence[Image.Image], prompts: Sequence[Prompt], encoding: object = None
    ) -> list[AlignmentMap]:
        """Return the maps of the images."""
        if len(prompts) != len(images):
            raise PromptError(f"One prompt per image is needed: got {len(prompts)} for {len(images)} images.")
        texts = [prompt if isinstance(prompt, str) else parsed_prompt(prompt).text for prompt in prompts]
        maps = self._maps(images, texts)
        scores = [None if self.score is None else _checked_score(float(self.score(m))) for m in maps]
        note = "The alignment map was given, not measured."
        return [AlignmentMap(values, score, (), note) for values, score in zip(maps, scores, strict=True)]


def read_heatmap(given: Heatmap, size: tuple[int, int]) -> np.ndarray:
    """Return a map as `(H, W)` float32 in 0..1, checked against the image's `(width, height)`."""
    name = f"Heatmap '{given}'" if isinstance(given, (str, Path)) else "The heatmap"
    if isinstance(given, (str, Path)):
        path = Path(given)
        try:
            if path.suffix.lower() == ".npy":
                given = np.load(path, allow_pickle=False)
            else:
                with Image.open(path) as image:
                    given = image.copy()
        except (OSError, ValueError) as error:
            raise ImageError(
                f"Cannot read the heatmap '{path}': {error}. Give a .npy array or a grey image."
            ) from error
    if isinstance(given, Image.Image):
        is_deep = given.mode.startswith("I")
        given = np.asarray(given if is_deep else given.convert("L"), np.float32) / (65535.0 if is_deep else 255.0)
    values = np.asarray(given)
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


def _spread(source: Any, images: Sequence[Image.Image], kind: str) -> Sequence[Heatmap]:
    """Return one of the maps that were made beforehand for every image."""
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        return _of_folder(Path(source), images, kind)
    if hasattr(source, "__array__") and not isinstance(source, Image.Image):
        source = np.asarray(source)
        source = [source] if source.ndim == 2 else list(source)
    elif isinstance(source, (str, Path, Image.Image)):
        source = [source]
    elif isinstance(source, Mapping) or not isinstance(source, Sequence):
        raise ConfigError(
            f"A heatmap source must be a map, a list of maps, a folder or a function, not {type(source).__name__}."
        )
    if len(source) != len(images):
        many = "One heatmap was" if len(source) == 1 else f"{len(source)} heatmaps were"
        raise ConfigError(f"{many} given for {len(images)} images: give one per image, or a function.")
    return source


def _of_folder(folder: Path, images: Sequence[Image.Image], kind: str) -> list[Path]:
    """Return the map of every image: the one of its name, or the next one where an image has no name."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS]
    ours = [path for path in files if path.stem.endswith(f".{kind}")]  # `grefine map` writes other pictures, too
    names = [Path(getattr(image, "filename", "") or "").name for image in images]
    if all(names):
        return [map_file(folder, kind, name, plain=not ours) for name in names]
    found = {path.stem.removesuffix(f".{kind}") for path in ours or files}
    if len(found) != len(images):
        raise ConfigError(
            f"The folder '{folder}' holds {len(found)} heatmaps for {len(images)} images without file names: give one "
            "for each, or open the images from files of the same names."
        )
    return [map_file(folder, kind, f"{name}.png", plain=not ours) for name in sorted(found)]


def map_file(folder: Path, kind: str, relative: str, plain: bool = True) -> Path:
    """Return the map of a picture by its path below the folder of pictures, or by its bare name.

    Its name ends in `.{kind}`, or where `plain` names are maps, is that of the picture.
    """
    stem = Path(relative).with_suffix("")
    for place in dict.fromkeys((stem, Path(stem.name))):
        for name in (f"{place.name}.{kind}", place.name)[: 1 + plain]:
            for ending in (*ENDINGS, *map(str.upper, ENDINGS)):
                if (found := folder / place.parent / f"{name}{ending}").is_file():
                    return found
    raise ImageError(f"The folder '{folder}' has no {kind} map for '{relative}': add '{stem}.npy'.")


def _checked_score(value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"The score of a heatmap must lie in 0..1, not {value}.")
    return value
