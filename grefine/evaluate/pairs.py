"""Which image belongs to which: by path relative to the two folders."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from grefine.errors import ConfigError
from grefine.io.walk import LOOKED_FOR, pictures_below


@dataclass(frozen=True, slots=True)
class Pair:
    """One image before and after."""

    name: str
    """Path of the input relative to its folder, with forward slashes."""
    before: Path
    after: Path


@dataclass(frozen=True, slots=True)
class Pairing:
    """What two folders have in common, and what not."""

    pairs: tuple[Pair, ...]
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """One sentence per thing that a reader should know."""


def image_files(folder: str | Path) -> dict[str, Path]:
    """Return the images below `folder` by relative path, sorted, without hidden ones and a run's own panels."""
    root = Path(folder)
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        raise ConfigError(f"'{root}' {what}: give a folder of images.")
    return dict(sorted((path.relative_to(root).as_posix(), path) for path in pictures_below(root)))


def pair_folders(before: str | Path, after: str | Path) -> Pairing:
    """Pair the images of two folders: the same relative path first, then the same path with another image suffix."""
    left, right = image_files(before), image_files(after)
    for folder, files in ((before, left), (after, right)):
        if not files:
            raise ConfigError(f"'{folder}' has no images ({LOOKED_FOR}): give a folder that has some.")
    matches, ambiguous = match_names(left, right)
    if not matches:
        raise ConfigError(
            f"No image of '{before}' (such as {next(iter(left))}) has a counterpart in '{after}' (such as "
            f"{next(iter(right))}): images are paired by their path inside the folders, so keep names and sub-folders."
        )
    pairs = tuple(Pair(name, left[name], right[other]) for name, other in matches.items())
    taken = set(matches.values())
    notes = tuple(f"'{name}' has several counterparts of other types and was not paired." for name in ambiguous)
    only_after = tuple(name for name in right if name not in taken)
    return Pairing(pairs, tuple(name for name in left if name not in matches), only_after, notes)


def match_names(left: dict[str, Path], right: dict[str, Path]) -> tuple[dict[str, str], list[str]]:
    """Return name → counterpart, and the names whose counterpart is not unique."""
    matches = {name: name for name in left if name in right}
    free_left, free_right = _by_stem(left, matches.keys()), _by_stem(right, set(matches.values()))
    ambiguous: list[str] = []
    for stem, names in free_left.items():
        others = free_right.get(stem, [])
        if len(names) == len(others) == 1:
            matches[names[0]] = others[0]
        elif others:
            ambiguous += names
    return dict(sorted(matches.items())), ambiguous


def _by_stem(files: dict[str, Path], taken: object) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = {}
    for name in files:
        if name not in taken:  # type: ignore[operator]
            stems.setdefault(str(Path(name).with_suffix("")), []).append(name)
    return stems
