"""What a run over a folder keeps below OUT about its images: journal rows and map layers, and how to find them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grefine.io.journal import read_journal

STATE_FOLDER = ".grefine"
"""Below OUT: journal and settings of the run. A folder that holds one is an output of ours."""
JOURNAL = "journal.jsonl"
MAPS = "maps"
RUN_FOLDERS = ("panels", "report_files")
"""Folders of an OUT that hold no results."""
LAYERS = ("quality", "alignment", "mask")
_LONGEST_NAME = 255


def layer_path(out: Path, name: str, layer: str) -> Path:
    """Return where the map of a result is kept for a page; `name` is the result's path below OUT."""
    return out / STATE_FOLDER / MAPS / with_ending(name, f".{layer}.png")


def with_ending(name: str, ending: str) -> str:
    """Return a path with one more ending, its last part shortened where no file could be called so."""
    folder, _, last = name.rpartition("/")
    if len(os.fsencode(last + ending)) > _LONGEST_NAME:
        digest = hashlib.sha256(os.fsencode(last)).hexdigest()[:16]
        last = f"{os.fsencode(last)[:100].decode('utf-8', 'ignore')}-{digest}"
    return f"{folder}/{last}{ending}" if folder else last + ending


def layers_at(out: Path, name: str) -> dict[str, Path]:
    """Return the maps that are kept of a result."""
    found = {layer: layer_path(out, name, layer) for layer in LAYERS}
    return {layer: path for layer, path in found.items() if path.is_file()}


def last_rows(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the last row of every image: an input that was refined anew has an older one."""
    last = {row["file"]: number for number, row in enumerate(read_journal(journal)) if _is_image(row)}
    for number, row in enumerate(read_journal(journal)):
        if _is_image(row) and last[row["file"]] == number:
            yield row


def _is_image(row: dict[str, Any]) -> bool:
    return row.get("kind") == "image" and isinstance(row.get("file"), str)


def run_of(result: Path) -> Path | None:
    """Return the OUT of the run that a result belongs to: its nearest folder upwards that holds a journal."""
    for folder in Path(os.path.abspath(result)).parents:
        if (folder / STATE_FOLDER / JOURNAL).is_file():
            return folder
    return None
