"""Append-only files: what was appended is on disk, whole; what ended the process that wrote leaves no half of it."""

import errno
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from grefine.errors import ConfigError
from grefine.io.atomic import sync_folder, write_all, write_atomic
from grefine.io.picture import printable

Row = dict[str, Any]


class AppendOnly:
    """A file that only grows, cut first to the `size` that counts; `alone` is what a second writer is told."""

    def __init__(self, path: str | Path, size: int | None = None, *, alone: str = "", durable: bool = True) -> None:
        self.path, self._durable, self._lock = Path(path), durable, threading.Lock()
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise ConfigError(f"Cannot write '{printable(self.path)}': {error.strerror}.") from error
        try:
            if alone:
                lock_file(self._file, alone)
            if size is not None:
                os.ftruncate(self._file, size)
        except BaseException:
            os.close(self._file)
            raise
        sync_folder(self.path.parent)

    def write(self, data: bytes) -> None:
        """Append one piece."""
        with self._lock:
            if not self.path.exists() or not os.path.samestat(os.stat(self.path), os.fstat(self._file)):
                raise OSError(errno.ESTALE, "its folder was moved or removed during the run")
            size = os.fstat(self._file).st_size
            try:
                write_all(self._file, data)
                if self._durable:
                    os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, size)
                raise

    def close(self) -> None:
        """Close the file."""
        os.fsync(self._file)
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Journal(AppendOnly):
    """Rows in units, each appended in one piece. Opening cuts off a torn end and keeps the whole units of the rest."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.repaired = ""
        """What opening had to repair, one sentence; empty for a sound journal."""
        self._next, self._unit = 0, threading.Lock()
        if is_there(self.path):
            self._repair()
        self.first = self._next
        """The number of the first unit that is appended."""
        super().__init__(path)

    def append(self, rows: list[Row]) -> None:
        """Append one unit and wait until it is on disk."""
        with self._unit:
            self.write(unit_lines(self._next, rows, allow_nan=False))
            self._next += 1

    def _repair(self) -> None:
        units = [(start, end, rows[0]["unit"]) for start, end, rows in read_units(self.path)]
        self._next = max((number for *_, number in units), default=-1) + 1
        ends, size = [0, *(end for _, end, _ in units)], self.path.stat().st_size
        if [start for start, *_ in units] == ends[:-1]:
            if ends[-1] != size:
                os.truncate(self.path, ends[-1])
                self.repaired = f"{size - ends[-1]} bytes at the end of the journal were not whole and were cut off."
            return
        data, aside = self.path.read_bytes(), self.path.with_name(f"{self.path.name}.damaged")
        write_atomic(aside, data)
        write_atomic(self.path, b"".join(data[start:end] for start, end, _ in units))
        self.repaired = f"the journal was damaged; its {len(units)} whole units are kept, a copy is in '{aside.name}'."


def unit_lines(number: int, rows: list[Row], allow_nan: bool = True) -> bytes:
    """Return rows as one unit of a journal; marks that they have of another place there do not count."""
    marks = ({"unit": number, "at": at, "of": len(rows)} for at in range(len(rows)))
    lines = [json.dumps(mark | row | mark, allow_nan=allow_nan) for mark, row in zip(marks, rows, strict=True)]
    return "".join(f"{line}\n" for line in lines).encode()


def read_journal(path: str | Path) -> Iterator[Row]:
    """Yield the rows of whole units, in order; nothing for a journal that is not there."""
    if is_there(Path(path)):
        for *_, rows in read_units(Path(path)):
            yield from rows


def is_there(path: Path) -> bool:
    """Say whether there is a journal; what is no ordinary file (a link, a pipe) is refused before it is opened."""
    try:
        ordinary = stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"Cannot read the journal '{printable(path)}': {error.strerror}.") from error
    if not ordinary:
        raise ConfigError(f"The journal '{printable(path)}' is no ordinary file: remove it, or choose another OUT.")
    return True


def read_units(path: Path) -> Iterator[tuple[int, int, list[Row]]]:
    """Yield (start, end, rows) of every whole unit."""
    unit: list[Row] = []
    start = place = 0
    with path.open("rb") as file:
        for raw in file:
            row = read_row(raw)
            if unit and not (row and row["at"] == len(unit) and row["unit"] == unit[0]["unit"]):
                unit = []
            if not unit:
                start = place
            place += len(raw)
            if row and row["at"] == len(unit):
                unit.append(row)
                if len(unit) == unit[0]["of"]:
                    yield start, place, unit
                    unit = []


def read_row(raw: bytes) -> Row | None:
    """Return the row that a line holds; None for anything else."""
    if not raw.endswith(b"\n"):
        return None
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not all(isinstance(row.get(k), int) for k in ("unit", "at", "of")):
        return None
    return row if 0 <= row["at"] < row["of"] else None


def whole_lines(path: str | Path) -> tuple[list[bytes], int]:
    """Return the finished lines of a file and their size; a last line without its end was never acknowledged."""
    data = Path(path).read_bytes() if Path(path).is_file() else b""
    whole = data.rfind(b"\n") + 1
    return data[:whole].splitlines(), whole


def lock_file(descriptor: int, message: str, *, shared: bool = False) -> None:
    """Lock an open file, alone or `shared`; where another process has it, fail with `message`, or wait without one."""
    with suppress(ImportError):  # Windows has no such locks
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, kind | (fcntl.LOCK_NB if message else 0))
        except OSError as error:
            raise ConfigError(message) from error
