"""Maps from outside by name: other packages draw them, or a folder holds one for every picture."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from grefine.errors import ConfigError, ImageError, nearest
from grefine.indicators.heatmap import ENDINGS, read_heatmap
from grefine.types import AlignmentMap, MapSpec, ParsedPrompt, QualityMap

GROUPS = {"quality": "grefine.quality_maps", "alignment": "grefine.alignment_maps"}
"""The entry point groups under which other packages bring maps."""


class MapFile(Protocol):
    """What the file of a provider holds."""

    SPEC: MapSpec
    load: Callable[[str], Callable[..., Sequence[Any]]]
    """From a device to a function of images (for alignment also of their prompts) that returns `(H, W)` arrays."""


@dataclass(frozen=True)
class Provider:
    """A map of another package, in the convention of our own: values in 0..1, high is good."""

    kind: str
    spec: MapSpec
    draw: Callable[..., Sequence[Any]]

    def __call__(
        self, images: Sequence[Image.Image], prompts: Sequence[ParsedPrompt] | None = None
    ) -> list[QualityMap] | list[AlignmentMap]:
        """Return the maps of pictures; those of alignment get the prompts as texts."""
        alone = prompts is None
        given = self.draw(list(images)) if alone else self.draw(list(images), [prompt.text for prompt in prompts])
        if not hasattr(given, "__len__") or len(given) != len(images):
            raise ConfigError(f"The {self.kind} map '{self.spec.name}' must return a list with a map for each image.")
        maps = [self._scaled(one, image) for one, image in zip(given, images, strict=True)]
        if self.kind == "quality":
            return [QualityMap(values, float(values.mean())) for values in maps]
        return [AlignmentMap(values, None, (), f"'{self.spec.name}' drew the alignment map.") for values in maps]

    def _scaled(self, given: Any, image: Image.Image) -> np.ndarray:
        low, high = self.spec.range
        values = np.asarray(given, dtype=np.float32)
        if values.size and (values.min() < low or values.max() > high):
            raise ImageError(
                f"The {self.kind} map '{self.spec.name}' ranges from {values.min():g} to {values.max():g}; it "
                f"declares {low:g}..{high:g}."
            )
        values = read_heatmap((values - low) / (high - low), image.size)
        return 1.0 - values if self.spec.high_is == "bad" else values


@dataclass(frozen=True)
class MapFolder:
    """A folder of maps that were made beforehand: name by name, in the tree of the pictures."""

    kind: str
    folder: Path

    def map_of(self, relative: str) -> Path:
        """Return the map of a picture by its path below the folder of pictures, or by its bare name.

        Raises:
            ImageError: there is none.
        """
        stem = Path(relative).with_suffix("")
        for place in dict.fromkeys((stem, Path(stem.name))):
            for ending in ENDINGS:
                for name in (f"{place.name}.{self.kind}{ending}", f"{place.name}{ending}"):
                    if (found := self.folder / place.parent / name).is_file():
                        return found
        raise ImageError(f"The folder '{self.folder}' has no {self.kind} map for '{relative}': add '{stem}.npy'.")


MapSource = Provider | MapFolder


def map_files(kind: str) -> dict[str, MapFile]:
    """Return the providers of other packages by name; one that cannot be imported is left out with a warning."""
    return _installed(GROUPS[kind], tuple(sys.path))


@cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, MapFile]:
    """Return them; `path` is where they are looked for, so that a changed one is noticed."""
    found: dict[str, MapFile] = {}
    for entry in entry_points(group=group):
        try:
            opened = entry.load()
            found |= {file.SPEC.name: file for file in (opened if isinstance(opened, tuple) else (opened,))}
        except Exception as error:  # noqa: BLE001 - whatever another package does, ours go on
            warnings.warn(f"The map '{entry.value}' of another package was left out: {error}", stacklevel=4)
    return found


def open_source(kind: str, source: str | Path, device: str = "cpu", allow_noncommercial: bool = False) -> MapSource:
    """Return what `--quality-map NAME|DIR` or `--alignment-map NAME|DIR` means.

    Args:
        kind: "quality" or "alignment".
        source: the name of a provider that is installed, or a folder of maps.
        device: on which a provider runs.
        allow_noncommercial: accept the terms of a provider that asks for it.

    Raises:
        ConfigError: neither; what is installed is named. Or terms that were not accepted.
    """
    files = map_files(kind)
    if str(source) not in files:
        if Path(source).is_dir():
            return MapFolder(kind, Path(source))
        known = ", ".join(files) or "none"
        raise ConfigError(
            f"--{kind}-map: '{source}' is no folder and no provider (installed: {known}){nearest(str(source), files)}"
        )
    file = files[str(source)]
    if file.SPEC.noncommercial and not allow_noncommercial:
        raise ConfigError(
            f"The {kind} map '{source}' runs under non-commercial terms ({file.SPEC.licence}); pass "
            "--allow-noncommercial if yours is such a use."
        )
    if not file.SPEC.range[0] < file.SPEC.range[1]:
        raise ConfigError(f"The {kind} map '{source}' declares the range {file.SPEC.range}: the second is not larger.")
    return Provider(kind, file.SPEC, file.load(device))


def open_sources(
    quality: str | Path | None, alignment: str | Path | None, device: str = "cpu", allow_noncommercial: bool = False
) -> tuple[MapSource | None, MapSource | None]:
    """Return what stands in for PQ-Map and for AQ-Map, as `open_source` reads it; None where nothing does."""
    first, second = (
        None if source is None else open_source(kind, source, device, allow_noncommercial)
        for kind, source in (("quality", quality), ("alignment", alignment))
    )
    return first, second


def maps_of(source: MapSource | None, relatives: Sequence[str]) -> Provider | list[Path] | None:
    """Return what a call of the pipeline takes for these pictures: the provider, or the files of a folder.

    Raises:
        ImageError: the folder has no map for one of them.
    """
    return [source.map_of(relative) for relative in relatives] if isinstance(source, MapFolder) else source
