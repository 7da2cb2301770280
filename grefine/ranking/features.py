"""The methods under comparison, matched by file name, and what two pictures are compared by (D1, D2) without weights.

Every descriptor is a fixed-length vector, so that a distance is a subtraction: 660,000 of them take seconds.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from grefine.errors import ConfigError
from grefine.io.atomic import write_atomic
from grefine.io.content import content_hash
from grefine.io.images import read_image
from grefine.io.walk import LOOKED_FOR, pictures_below

SCALES = ((256, 8), (128, 8), (64, 4))
"""Side in pixels and grid of cells per side, fine to coarse."""
ORIENTATIONS = 4
APPEARANCE = "offline-appearance-1"
LAYOUT = "offline-layout-1"


@dataclass(frozen=True, slots=True)
class MethodImages:
    """The inputs that every method has an output for."""

    methods: tuple[str, ...]
    names: tuple[str, ...]
    """Input names: file names without extension, sorted."""
    paths: dict[str, tuple[Path, ...]]


def images_in(folder: str | Path) -> dict[str, Path]:
    """Return a folder's images by name without extension."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"'{folder}' is not a folder: give one folder of images per method.")
    found: dict[str, Path] = {}
    for path in pictures_below(folder, recursive=False):
        if path.stem in found:
            raise ConfigError(f"'{folder}' has two images named '{path.stem}'; keep one of each name.")
        found[path.stem] = path
    if not found:
        raise ConfigError(f"'{folder}' has no images ({LOOKED_FOR}).")
    return found


def match_methods(folders: Sequence[str | Path], common: bool = False) -> MethodImages:
    names = [Path(f).resolve().name for f in folders]
    if len(names) < 2:
        raise ConfigError("A comparison needs the folders of at least two methods.")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two folders are named '{name}'; the folder's name is the method's, so rename one.")
    each = {name: images_in(folder) for name, folder in zip(names, folders, strict=True)}
    everything = sorted(set().union(*each.values()))
    shared = [image for image in everything if all(image in images for images in each.values())]
    if not shared:
        raise ConfigError("No image name occurs in all folders: outputs for one input must have the same file name.")
    if not common:
        for name, images in each.items():
            missing = [image for image in everything if image not in images]
            if missing:
                raise ConfigError(
                    f"Method '{name}' lacks {len(missing)} of {len(everything)} images, first '{missing[0]}'; "
                    f"complete it, or pass --common to use the {len(shared)} that every method has."
                )
    return MethodImages(
        tuple(names), tuple(shared), {name: tuple(images[s] for s in shared) for name, images in each.items()}
    )


def inputs_for(folder: str | Path, names: Sequence[str]) -> list[Path]:
    found = images_in(folder)
    missing = [n for n in names if n not in found]
    if missing:
        raise ConfigError(f"The inputs in '{folder}' lack {len(missing)} images, first '{missing[0]}'.")
    return [found[n] for n in names]


def appearance(image: Image.Image) -> np.ndarray:
    """Describe how the image looks: brightness, contrast and oriented edge energy per cell at three scales, colour.

    Outputs of one input share their shape, so a square does; equal images are 0 apart, unrelated ones about 0.5.
    """
    parts = []
    for side, grid in SCALES:
        pixels = np.asarray(image.resize((side, side), Image.Resampling.BOX), dtype=np.float32) / 255
        luma = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        mean = _cells(luma, grid)
        deviation = np.sqrt(np.maximum(_cells(luma * luma, grid) - mean * mean, 0))
        parts += [mean, 4 * deviation, *(8 * e for e in _edges(luma, grid))]
        if grid == SCALES[-1][1]:
            parts += [_cells(pixels[..., c] - luma, grid) for c in (0, 2)]
    return np.concatenate([p.ravel() for p in parts]).astype(np.float32)


def layout(image: Image.Image) -> np.ndarray:
    """Describe what kind of scene it is, without weights: colours and edges on a 4 x 4 grid, colour histogram."""
    pixels = np.asarray(image.resize((128, 128), Image.Resampling.BOX), dtype=np.float32) / 255
    luma = pixels.mean(-1)
    parts = [_cells(pixels[..., c], 4) for c in range(3)] + [8 * e for e in _edges(luma, 4)]
    code = (np.minimum(pixels, 0.999) * 4).astype(np.int64) @ np.array([16, 4, 1])
    histogram = np.sqrt(np.bincount(code.ravel(), minlength=64) / code.size)
    return np.concatenate([p.ravel() for p in parts] + [histogram]).astype(np.float32)


def standardised(features: np.ndarray) -> np.ndarray:
    """Scale features so that the mean squared difference of two random images is 1."""
    features = np.asarray(features, dtype=np.float32)
    spread = 2 * float(features.var(0).mean())
    return features / np.sqrt(spread) if spread > 0 else features


def appearance_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the `(n,)` mean absolute differences of two `(n, width)` descriptor matrices."""
    found = np.empty(len(first))
    for start in range(0, len(first), 1024):
        stop = start + 1024
        found[start:stop] = np.abs(first[start:stop].astype(np.float32) - second[start:stop]).mean(1)
    return found


def described(
    paths: Sequence[Path], describe: Callable[[Image.Image], np.ndarray], name: str, cache: Path | None
) -> np.ndarray:
    """Return `(n, width)` float16 descriptors; those in `cache` of the same path, size and time of change are read."""
    stamps, known = [], {}
    for path in paths:
        state = path.stat()
        stamps.append(content_hash(f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}")[:24])
    if cache is not None:
        try:
            with np.load(cache / f"{name}.npz", allow_pickle=False) as stored:
                known = dict(zip(stored["stamps"].tolist(), stored["features"], strict=True))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            known = {}  # A cache that cannot be read is only a cache: it is computed anew and replaced.
    missing = [i for i, s in enumerate(stamps) if s not in known]
    for i in missing:
        known[stamps[i]] = describe(read_image(paths[i]).rgb).astype(np.float16)
    rows = np.stack([known[s] for s in stamps])
    if missing and cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        out = io.BytesIO()
        np.savez(out, stamps=np.array(stamps), features=rows)
        write_atomic(cache / f"{name}.npz", out.getvalue())
    return rows


class FeatureDistances:
    """Distances between rows of a feature matrix; each asked row is computed once and kept for all method pairs."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = features
        self._rows: dict[int, np.ndarray] = {}

    def __call__(self, index: int) -> np.ndarray:
        """Return the `(n,)` mean squared differences of image `index` to all images."""
        if index not in self._rows:
            row = np.asarray(self.features[index], dtype=np.float32)
            found = np.empty(len(self.features))
            for start in range(0, len(found), 1024):
                part = np.asarray(self.features[start : start + 1024], dtype=np.float32) - row
                found[start : start + 1024] = np.einsum("ij,ij->i", part, part) / part.shape[1]
            self._rows[index] = found
        return self._rows[index]


class OfflineDistances:
    """Descriptors without weights; D2 is scaled so that two random inputs are 1 apart."""

    appearance_name, semantics_name = APPEARANCE, LAYOUT

    def __init__(self, cache: Path | None = None, progress: Callable[[str], None] = lambda _: None) -> None:
        self.cache, self.progress = cache, progress
        self._appearance: dict[str, np.ndarray] = {}

    def appearance(self, found: MethodImages, a: str, b: str) -> np.ndarray:
        """Return D1 `(n,)`, how much two methods' outputs differ: mean absolute difference of descriptors."""
        for method in (a, b):
            if method not in self._appearance:
                self.progress(f"describing {method}")
                file = f"{method}-{self.appearance_name}"
                paths = found.paths[method]
                self._appearance[method] = described(paths, appearance, file, self.cache)
        return appearance_distance(self._appearance[a], self._appearance[b])

    def semantics(self, inputs: Sequence[Path] | None, found: MethodImages) -> Callable[[int], np.ndarray]:
        """Return what gives D2 of one input to all, `(n,)`; without inputs the methods' outputs stand in."""
        named = {"inputs": inputs} if inputs is not None else {m: found.paths[m] for m in found.methods}
        each = [described(paths, layout, f"{name}-{self.semantics_name}", self.cache) for name, paths in named.items()]
        return FeatureDistances(standardised(np.mean([e.astype(np.float32) for e in each], axis=0)))


def _cells(values: np.ndarray, grid: int) -> np.ndarray:
    side = values.shape[0] // grid
    return values.reshape(grid, side, grid, side).mean((1, 3))


def _edges(luma: np.ndarray, grid: int) -> list[np.ndarray]:
    dy, dx = np.gradient(luma)
    angle = np.arctan2(dy, dx) % np.pi
    size = np.hypot(dx, dy)
    bins = np.minimum((angle / np.pi * ORIENTATIONS).astype(np.int64), ORIENTATIONS - 1)
    return [_cells(np.where(bins == o, size, 0), grid) for o in range(ORIENTATIONS)]
