"""An append-only JSONL file whose units are there whole or not at all, whatever ended the process that wrote them."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError
from grefine.io.atomic import sync_folder, write_all, write_atomic
from grefine.io.images import printable

Row = dict[str, Any]


class Journal:
    """Rows in units: a unit's rows are appended in one piece, and a unit that is not whole does not count.

    Opening repairs: a torn end is cut off. Damage further up is moved aside into a copy, and the whole units stay.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.repaired = ""
        """What opening had to repair, one sentence; empty for a sound journal."""
        self._next = 0
        self._lock = threading.Lock()
        if is_there(self.path):
            self._repair()
        self.first = self._next
        """The number of the first unit that is appended."""
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise ConfigError(f"Cannot write the journal '{printable(self.path)}': {error.strerror}.") from error
        sync_folder(self.path.parent)

    def append(self, rows: list[Row]) -> None:
        """Append one unit and wait until it is on disk.

        Raises:
            OSError: the disk is full or gone, or the journal is no longer in its place; it is as it was before.
        """
        with self._lock:
            if not self.path.exists() or not os.path.samestat(os.stat(self.path), os.fstat(self._file)):
                raise OSError(errno.ESTALE, "its folder was moved or removed during the run")
            marks = ({"unit": self._next, "at": i, "of": len(rows)} for i in range(len(rows)))
            lines = [json.dumps(mark | row, allow_nan=False) for mark, row in zip(marks, rows, strict=True)]
            size = os.fstat(self._file).st_size
            try:
                write_all(self._file, "".join(f"{line}\n" for line in lines).encode())
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, size)
                raise
            self._next += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repair(self) -> None:
        sound = 0
        damaged_before = False
        for start, end, rows in _units(self.path):
            if rows is None:
                damaged_before = damaged_before or start < self.path.stat().st_size
                continue
            self._next = max(self._next, rows[0]["unit"] + 1)
            if start != sound:
                self._rewrite()
                return
            sound = end
        if sound != self.path.stat().st_size:
            lost = self.path.stat().st_size - sound
            os.truncate(self.path, sound)
            self.repaired = f"{lost} bytes at the end of the journal were not whole and were cut off."

    def _rewrite(self) -> None:
        """Keep a copy of a journal that is damaged in its middle, and go on with its whole units."""
        data = self.path.read_bytes()
        aside = self.path.with_name(f"{self.path.name}.damaged")
        write_atomic(aside, data)
        kept = []
        for start, end, rows in _units(self.path):
            if rows is not None:
                kept.append(data[start:end])
                self._next = max(self._next, rows[0]["unit"] + 1)
        write_atomic(self.path, b"".join(kept))
        self.repaired = f"the journal was damaged; its {len(kept)} whole units are kept, a copy is in '{aside.name}'."


def read_journal(path: str | Path) -> Iterator[Row]:
    """Yield the rows of whole units, in order; nothing for a journal that is not there."""
    if is_there(Path(path)):
        for _, _, rows in _units(Path(path)):
            yield from rows or ()


def is_there(path: Path) -> bool:
    """Say whether there is a journal; what is no ordinary file (a link, a pipe) is refused before it is opened.

    Raises:
        ConfigError: something else has its name.
    """
    try:
        ordinary = stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"Cannot read the journal '{printable(path)}': {error.strerror}.") from error
    if not ordinary:
        raise ConfigError(f"The journal '{printable(path)}' is no ordinary file: remove it, or choose another OUT.")
    return True


def _units(path: Path) -> Iterator[tuple[int, int, list[Row] | None]]:
    """Yield (start, end, rows) of every unit; rows are None for bytes that make none."""
    unit: list[Row] = []
    start = place = 0
    with path.open("rb") as file:
        for raw in file:
            row = _row(raw)
            fits = row is not None and row["at"] == len(unit) and (not unit or row["unit"] == unit[0]["unit"])
            if not fits:
                if unit:
                    yield start, place, None
                    unit = []
                if row is None or row["at"] != 0:
                    yield place, place + len(raw), None
                    place += len(raw)
                    continue
            if not unit:
                start = place
            unit.append(row)  # type: ignore[arg-type]
            place += len(raw)
            if len(unit) == unit[0]["of"]:
                yield start, place, unit
                unit = []
        if unit:
            yield start, place, None


def _row(raw: bytes) -> Row | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not all(isinstance(row.get(k), int) for k in ("unit", "at", "of")):
        return None
    return row if 0 <= row["at"] < row["of"] else None
