"""One image into one file: the run of a folder, of which only the result is kept."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from grefine.errors import ConfigError
from grefine.folder.options import FORMATS, FolderOptions
from grefine.io.images import SUFFIXES
from grefine.io.picture import printable
from grefine.io.run_files import JOURNAL, STATE_FOLDER, LastRows

if TYPE_CHECKING:
    from grefine.folder.summary import RunSummary


def names_a_file(out: str | Path) -> bool:
    """Say whether OUT is meant as a picture: it ends like one, and no folder of that name is there."""
    return Path(out).suffix.lower() in SUFFIXES and not Path(out).is_dir()


def refine_file(
    sources: Sequence[str | Path],
    out: Path,
    options: FolderOptions,
    work: "Callable[..., RunSummary]",
) -> "RunSummary":
    """Let `work` refine the image beside its place, and put the result there."""
    name, form = printable(out), SUFFIXES[out.suffix.lower()]
    source = Path(sources[0])
    if len(sources) > 1 or source.is_dir() or str(source).startswith("@"):
        raise ConfigError(f"'{name}' ends like a picture, so -o is one file: give one image, or a folder for many.")
    if form not in FORMATS.values():
        raise ConfigError(f"'{name}': results are written as .png, .jpg or .webp.")
    if os.path.lexists(out) and (options.overwrite != "always" or (source.exists() and out.samefile(source))):
        raise ConfigError(f"'{name}' is there already: --overwrite always replaces it, unless it is the input.")
    if not out.parent.is_dir():
        raise ConfigError(f"'{printable(out.parent)}', where '{out.name}' belongs, is no folder: make it first.")
    options = replace(options, format=form.lower(), suffix="", panels=False, report=False, overwrite="never")
    with tempfile.TemporaryDirectory(prefix=".grefine-partial-", dir=out.parent) as folder:
        summary = work(out=folder, options=options)
        for row in LastRows(Path(folder) / STATE_FOLDER / JOURNAL):
            if row.get("output"):
                os.replace(Path(folder) / row["output"], out)
    summary.out = out
    return summary
