"""What a run over a folder keeps below OUT about its images: journal rows and map layers, and how to find them."""

import hashlib
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from grefine.io.journal import is_there, read_journal, read_row

STATE_FOLDER = ".grefine"
"""Below OUT: journal and settings of the run. A folder that holds one is an output of ours."""
JOURNAL = "journal.jsonl"
MAPS = "maps"
RUN_FOLDERS = ("panels", "report_files")
"""Folders of an OUT that hold no results."""
DATASET = "dataset"
"""A run's results as a data set."""
LAYERS = ("quality", "alignment", "mask")
_LONGEST_NAME = 255
_MADE = ("untouched", "refined", "kept", "beyond")
_SHA256 = re.compile("[0-9a-f]{64}")
_PARTS: dict[str, type] = dict.fromkeys(
    ("file", "state", "reason", "source", "output", "prompt", "prompt_origin"), str
)
_PARTS |= dict.fromkeys(("input", "decision", "scores", "noise", "gate", "seconds"), dict)
_PARTS["size"] = list


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


def layer_names(name: str) -> list[str]:
    """Return the paths below OUT where the maps of a result are kept."""
    return [layer_path(Path(), name, layer).as_posix() for layer in LAYERS]


def layers_at(out: Path, name: str) -> dict[str, Path]:
    """Return the maps that are kept of a result."""
    return {layer: path for layer in LAYERS if (path := layer_path(out, name, layer)).is_file()}


class LastRows:
    """The last row of every image, as often as asked: the journal is read through once before, and little is kept."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._seen, self._again, self._metrics = NameSet(), Counter[str](), dict[str, None]()
        self._read = False

    def take(self, row: dict[str, Any]) -> None:
        """Be told a row of the journal while it is written; all or none of them."""
        self._read = True
        if row["kind"] == "image":
            if not self._seen.add(row["file"]):
                self._again[row["file"]] += 1
            for side in row.get("scores", {}).values():
                self._metrics.update(dict.fromkeys(side))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._look()
        left = Counter(self._again)
        for row in run_rows(self.journal):
            if row["kind"] == "image" and left.get(row["file"]):
                left[row["file"]] -= 1
            elif row["kind"] == "image":
                yield row

    def __len__(self) -> int:
        """How many images there are."""
        self._look()
        return len(self._seen)

    @property
    def metrics(self) -> list[str]:
        """What they were scored by."""
        self._look()
        return list(self._metrics)

    def _look(self) -> None:
        if not self._read:
            for row in run_rows(self.journal):
                self.take(row)
            self._read = True


class NameSet:
    """A set of names that takes 16 to 32 bytes for each."""

    def __init__(self) -> None:
        self._slots, self._count = array("q", [0]) * 64, 0

    def __len__(self) -> int:
        return self._count

    def add(self, name: str) -> bool:
        """Put a name in; say whether it was not there before."""
        if self._count * 2 >= len(self._slots):
            old, self._slots = self._slots, array("q", [0]) * (2 * len(self._slots))
            for key in filter(None, old):
                self._slots[self._place(key)] = key
        key = hash(name) or 1
        place = self._place(key)
        new = not self._slots[place]
        self._slots[place] = key
        self._count += new
        return new

    def _place(self, key: int) -> int:
        place = last = len(self._slots) - 1
        place &= key
        while self._slots[place] not in (0, key):
            place = (place + 1) & last
        return place


def run_rows(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run's journal that can be what a run wrote: anybody may have edited it."""
    return (row for row in read_journal(journal) if can_be_ours(row))


def run_starts(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a journal's starts; of others nothing is read."""
    if is_there(journal):
        with journal.open("rb") as file:
            for raw in file:
                row = read_row(raw) if b'"run"' in raw else None
                if row and row.get("kind") == "run" and row["of"] == 1 and can_be_ours(row):
                    yield row


def can_be_ours(row: dict[str, Any]) -> bool:
    """Say whether a row of a journal can be what a run wrote."""
    kind, made = row.get("kind"), row.get("state") in _MADE
    if kind == "run":
        return isinstance(row.get("header"), dict)
    if kind == "begin":
        folders = row.get("folders")
        return _all_are(str, row.get("files")) and _all_are(str, folders) and all(map(is_inside, folders or ()))
    if kind != "image":
        return kind == "end"
    regions, scores = row.get("regions", []), row.get("scores", {})
    regions = [] if isinstance(regions, int) else regions  # the first edition told how many
    needed = ("file", "state", "reason", *(("source", "output", "input") if made else ()))
    return (
        all(name in row for name in needed)
        and all(isinstance(row[name], kind) for name, kind in _PARTS.items() if name in row)
        and (made or row["state"] in ("failed", "skipped"))
        and (not made or bool(_SHA256.fullmatch(str(row["input"].get("sha256")))))
        and all(is_inside(row.get(name, "")) for name in ("file", "output"))
        and set(scores) in (set(), {"before", "after"})
        and _all_are(dict, list(scores.values()))
        and all(_all_are(str, row.get(name, [])) for name in ("notes", "missing"))
        and len(row.get("size", "wh")) == 2
        and _all_are(dict, regions)
        and all(isinstance(one.get("kind"), str) and isinstance(one.get("strength"), int | float) for one in regions)
    )


def _all_are(kind: type, values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def is_inside(name: str) -> bool:
    """Say whether a path that somebody wrote down can be one, and stays below the folder that it is relative to."""
    if not name.isascii():
        try:
            os.fsencode(name)
        except UnicodeEncodeError:
            return False
    # Paths are taken apart only where there is something to find: a journal has a million of them.
    return "\0" not in name and not os.path.isabs(name) and not (".." in name and ".." in PurePath(name).parts)
