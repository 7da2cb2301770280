"""The pictures of folders: one rule of what is a picture, and of which folders hold none of the user's."""

import os
from collections.abc import Container, Iterable
from pathlib import Path

from grefine.errors import ImageError
from grefine.io.images import SUFFIXES
from grefine.io.run_files import RUN_FOLDERS, STATE_FOLDER

LOOKED_FOR = ", ".join(SUFFIXES)
"""The names of files that are looked for, for messages."""


def is_picture(name: str) -> bool:
    """Say whether a file's name is that of a picture and not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def is_walked(folder: str, beside: Container[str]) -> bool:
    """Say whether a folder is looked into: not a hidden one, nor what a run of grefine keeps `beside` its results."""
    return not folder.startswith(".") and not (folder in RUN_FOLDERS and STATE_FOLDER in beside)


def pictures_below(root: Path, recursive: bool = True) -> list[Path]:
    """Return the pictures in a folder (and below it), sorted; links to folders are not followed."""
    found: list[Path] = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if is_walked(name, names)] if recursive else []
        found += (Path(folder, name) for name in files if is_picture(name))
    return sorted(found)


def pictures_of(sources: Iterable[str | Path]) -> list[tuple[Path, str]]:
    """Return files as they are given and the pictures below folders, each once, with its path below what was given."""
    found: dict[Path, str] = {}
    sources = [Path(source) for source in sources]
    for source in sources:
        if source.is_dir():
            for path in pictures_below(source):
                found.setdefault(path, path.relative_to(source).as_posix())
        elif source.exists():
            found.setdefault(source, source.name)
        else:
            raise ImageError(f"There is no file or folder '{source}'.")
    if not found:
        raise ImageError(f"No image in {', '.join(map(str, sources))}: {LOOKED_FOR} are looked for.")
    return list(found.items())
