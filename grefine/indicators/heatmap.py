"""Bring your own map: an array, a file or a folder of them stands in for PQ-Map or AQ-Map."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine.errors import ConfigError, ImageError
from grefine.types import AlignmentMap, QualityMap

Heatmap = np.ndarray | str | Path | Image.Image
Source = Heatmap | Sequence[Heatmap]
"""A map, a list of maps, or a folder of them."""
ENDINGS = (".npy", ".png", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
"""Of files that can be maps, the most exact first."""


class HeatmapQuality:
    """Quality maps that were made beforehand, called like PQ-Map; p is the mean of a map, high is good.

    The source is one map, one per image, or a folder of maps. A map is an `(H, W)` array in 0..1 of the image's size,
    or an image file of that size whose grey is the value (white = 1; 16 bits kept). In a folder the map of "a.png" is
    "a.npy" or "a.png", or what `grefine map` wrote for it.
    """

    kind = "quality"

    def __init__(self, source: Source) -> None:
        self.source = source

    def read(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Return one checked map per image."""
        given = _spread(self.source, images, self.kind)
        return [read_heatmap(one, image.size) for one, image in zip(given, images, strict=True)]

    def __call__(self, images: Sequence[Image.Image], prompts: object = None, encoding: object = None) -> list[Any]:
        """Return the maps of the images."""
        return [QualityMap(one, float(one.mean())) for one in self.read(images)]


class HeatmapAlignment(HeatmapQuality):
    """The same in place of AQ-Map; a is undefined, so that only p counts."""

    kind = "alignment"

    def __call__(self, images: Sequence[Image.Image], prompts: object = None, encoding: object = None) -> list[Any]:
        """Return the maps of the images."""
        note = "The alignment map was given, not measured."
        return [AlignmentMap(one, None, (), note) for one in self.read(images)]


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
            raise ImageError(f"Cannot read the heatmap '{path}' as .npy or grey image: {error}") from error
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
    if not (values.min() >= 0.0 and values.max() <= 1.0):  # written so that NaN fails as well
        raise ImageError(f"{name} ranges from {values.min():g} to {values.max():g}; it needs finite numbers in 0..1.")
    return values


def _spread(source: Any, images: Sequence[Image.Image], kind: str) -> Sequence[Heatmap]:
    """Return one of the maps that were made beforehand for every image."""
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        folder, names = Path(source), [Path(getattr(image, "filename", "") or "").name for image in images]
        if not all(names):
            raise ConfigError(
                f"The maps in '{folder}' are found by the file names of images, and an image here has none: give a "
                "list of maps, one for each image."
            )
        # `grefine map` writes other pictures, too: where it wrote maps, a plain name is none.
        ours = any(path.stem.endswith(f".{kind}") and path.suffix.lower() in ENDINGS for path in folder.iterdir())
        return [map_file(folder, kind, name, plain=not ours) for name in names]
    if hasattr(source, "__array__") and not isinstance(source, Image.Image):
        source = np.asarray(source)
        source = [source] if source.ndim == 2 else list(source)
    elif isinstance(source, (str, Path, Image.Image)):
        source = [source]
    elif isinstance(source, Mapping) or not isinstance(source, Sequence):
        what = type(source).__name__
        raise ConfigError(f"Give a map, a list of maps or a folder, not {what}; `pipe` takes functions as they are.")
    if len(source) != len(images):
        many = "One heatmap was" if len(source) == 1 else f"{len(source)} heatmaps were"
        raise ConfigError(f"{many} given for {len(images)} images: give one per image, or a function.")
    return source


def map_file(folder: Path, kind: str, relative: str, plain: bool = True) -> Path:
    """Return a picture's map by its path or bare name: NAME.kind or, where plain names are maps, NAME."""
    stem = Path(relative).with_suffix("")
    for place in dict.fromkeys((stem, Path(stem.name))):
        for name in (f"{place.name}.{kind}", place.name)[: 1 + plain]:
            for ending in (*ENDINGS, *map(str.upper, ENDINGS)):
                if (found := folder / place.parent / f"{name}{ending}").is_file():
                    return found
    raise ImageError(f"The folder '{folder}' has no {kind} map for '{relative}': add '{stem}.npy'.")
