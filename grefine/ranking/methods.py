"""The methods under comparison: one folder of outputs each, matched by file name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grefine.errors import ConfigError
from grefine.io.walk import LOOKED_FOR, pictures_below


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
