"""An OUT at an address, worked on in a folder here. No store has files that grow: units of the journal are objects."""

import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError
from grefine.io.journal import Journal, Row
from grefine.io.picture import printable
from grefine.io.places import fetched, is_address, patiently, system_of
from grefine.io.run_files import JOURNAL, STATE_FOLDER, layer_names, with_ending

_ROWS, _CLAIMS = f"{STATE_FOLDER}/rows", f"{STATE_FOLDER}/claims"
_KEPT = f"{STATE_FOLDER}/calibration.json"
"""What the next start needs beside the rows."""
_AT_ONCE = 64
STALE = 600.0
"""Seconds after which a process that says nothing is taken for dead."""
Where = str | Path
"""A folder or file of this machine, or at an address."""
_active: "dict[Path, Mirror]" = {}


def mirror_of(out: Path) -> "Mirror | None":
    """Return the mirror whose folder on this machine is `out`; None for an ordinary OUT."""
    return _active.get(out) if _active else None


@contextmanager
def at_hand(folder: Where, names: Sequence[str]) -> Iterator[Path]:
    """Yield a folder of this machine that has these files of a folder, or of an address, for a while."""
    with ExitStack() as stack:
        mirror = mirror_of(folder) if isinstance(folder, Path) else None
        if isinstance(folder, str) and is_address(folder):
            mirror = Mirror(folder, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="grefine-"))))
        if mirror is None:
            yield Path(folder)
            return
        for name, data in mirror.read_many(names).items():
            stack.callback(mirror.write(name, data).unlink, missing_ok=True)
        yield mirror.local


@contextmanager
def mirrored(address: str) -> "Iterator[Mirror]":
    """Work on the OUT at an address."""
    with tempfile.TemporaryDirectory(prefix="grefine-") as folder:
        mirror = Mirror(address, Path(folder))
        mirror.pull()
        _active[mirror.local] = mirror
        try:
            yield mirror
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(mirror.local), mirror.address)) from error
        finally:
            del _active[mirror.local]


@contextmanager
def on_this_machine(out: Where, prompts: Where | None, *views: str) -> Iterator[tuple[Where, Where | None]]:
    """Yield the OUT and the table of prompts of this machine that stand for addresses; views are sent at the end."""
    with tempfile.TemporaryDirectory(prefix="grefine-") as folder, ExitStack() as stack:
        table = prompts and fetched(prompts, Path(folder))
        mirror = stack.enter_context(mirrored(str(out))) if is_address(out) else None
        yield mirror.local if mirror else out, table
        if mirror:
            mirror.send_views(*views)


class Mirror:
    """The folder of this machine and the store behind it."""

    def __init__(self, address: str, local: Path) -> None:
        self.address, self.local = address.rstrip("/"), local
        self.system, root = system_of(self.address)
        self.root = root.rstrip("/")
        self._own = secrets.token_hex(8)
        self._claimed, self._beaten = "", 0.0

    # What is written

    def put(self, name: str, data: bytes) -> None:
        """Write one object, whole or not at all."""
        path = f"{self.root}/{name}"
        with suppress(NotImplementedError):  # stores without folders
            patiently(self.address, lambda: self.system.makedirs(path.rpartition("/")[0], exist_ok=True))
        patiently(f"{self.address}/{name}", lambda: self.system.pipe_file(path, data))

    def remove(self, name: str) -> None:
        """Remove one object."""
        patiently(self.address, lambda: self.system.rm_file(f"{self.root}/{name}"))

    def send(self, rows: Iterable[Row]) -> None:
        """Send the files of rows, and give their room on this machine back."""
        for row in rows:
            if name := row.get("output"):
                self.give(name, f"panels/{with_ending(name, '.png')}", *layer_names(name))

    def give(self, *names: str) -> None:
        """Send files, and give their room on this machine back."""
        self.send_views(*names)
        for name in names:
            (self.local / name).unlink(missing_ok=True)

    def send_views(self, *names: str) -> None:
        """Send what lies under these names of the folder, files or folders."""
        for name in names:
            for file in (self.local / name, *(self.local / name).rglob("*")):
                if file.is_file():
                    self.put(file.relative_to(self.local).as_posix(), file.read_bytes())

    # What is read

    def has(self, name: str) -> bool:
        """Say whether an object is there."""
        # Not by `exists`, which takes every error for a no.
        return bool(self._found(name, self.system.info))

    def _found(self, name: str, call: Callable[[str], Any]) -> Any:
        """Ask for something that may not be there; None where it is not."""

        def ask() -> Any:
            with suppress(FileNotFoundError):
                return call(f"{self.root}/{name}")

        return patiently(self.address, ask)

    def _names(self, folder: str) -> list[str]:
        found = self._found(folder, partial(self.system.ls, detail=True)) or []
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in found)

    def read(self, name: str) -> bytes:
        """Return one object."""
        return patiently(f"{self.address}/{name}", lambda: self.system.cat_file(f"{self.root}/{name}"))

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return objects, those of them that there are; asked again is only what did not come."""
        left, found = {f"{self.root}/{name}": name for name in names}, dict[str, bytes]()

        def ask() -> None:
            failed: list[Exception] = []
            for path, data in self.system.cat(list(left), on_error="return").items() if left else ():
                if isinstance(data, Exception) and not isinstance(data, FileNotFoundError):
                    failed.append(data)
                elif isinstance(data, bytes):
                    found[left.pop(path)] = data
            if failed:
                raise failed[0]

        patiently(self.address, ask)
        return found

    # What is on this machine

    def write(self, name: str, data: bytes = b"") -> Path:
        """Write a file on this machine."""
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def pull(self) -> None:
        """Make the journals of this machine from the rows in the store."""
        (self.local / STATE_FOLDER / "shards").mkdir(parents=True)
        self.put(f"{STATE_FOLDER}/opened", self._own.encode())  # who may not write is told now
        if self.has(_KEPT):
            self.write(_KEPT, self.read(_KEPT))
        for stem in self._names(_ROWS):
            names = [f"{_ROWS}/{stem}/{name}" for name in self._names(f"{_ROWS}/{stem}")]
            if not names:
                continue  # an empty folder is no journal: its rows are in the merged one
            with self._journal(stem).open("wb") as file:
                for first in range(0, len(names), _AT_ONCE):
                    some = names[first : first + _AT_ONCE]
                    found = self.read_many(some)
                    if len(found) < len(some):
                        raise ConfigError(f"'{printable(self.address)}' was merged just now: start again.")
                    file.writelines(data for _, data in sorted(found.items()))

    def _journal(self, stem: str) -> Path:
        name = f"{stem}.jsonl"
        return self.local / STATE_FOLDER / (name if name == JOURNAL else f"shards/{name}")

    def put_merged(self, journal: Path) -> None:
        """Send a merged journal; then remove the rows of the shards that are in it and no longer run."""
        stems = [one for one in self._names(_ROWS) if one == journal.stem or not self._journal(one).exists()]
        olds = [f"{_ROWS}/{stem}/{name}" for stem in stems for name in self._names(f"{_ROWS}/{stem}")]
        new = f"{_ROWS}/{journal.stem}/{0:010}.jsonl"
        self.put(new, journal.read_bytes())
        for old in olds:
            if old != new:
                self.remove(old)

    # Who works on it

    @contextmanager
    def claim(self, name: str, message: str) -> Iterator[None]:
        """Keep other processes out of a part of the run, as well as a store without locks can."""
        if self.is_claimed(name):
            raise ConfigError(f"{message} If it was killed, it is taken for dead {STALE / 60:.0f} minutes later.")
        self._claimed, self._beaten = f"{_CLAIMS}/{name}", 0.0
        self.beat()
        try:
            yield
        finally:
            with suppress(ConfigError):
                self.remove(f"{_CLAIMS}/{name}")

    def beat(self) -> None:
        """Say now and then that this process is alive."""
        if self._claimed and time.time() - self._beaten > STALE / 10:
            self._beaten = time.time()
            who = {"own": self._own, "host": socket.gethostname(), "pid": os.getpid(), "time": self._beaten}
            self.put(self._claimed, json.dumps(who).encode())

    def is_claimed(self, name: str) -> bool:
        """Say whether another process works on a part of the run."""
        try:
            who = dict(json.loads(self._found(f"{_CLAIMS}/{name}", self.system.cat_file) or b"{}"))
            if not who or who["own"] == self._own:
                return False
            if who["host"] == socket.gethostname():
                with suppress(PermissionError):  # it is alive, and somebody else's
                    os.kill(int(who["pid"]), 0)
            return time.time() - float(who["time"]) < STALE
        except (ValueError, KeyError, TypeError, ProcessLookupError):
            return False

    def holds(self, address: str) -> bool:
        """Say whether an address is this OUT or below it."""
        return f"{address.rstrip('/')}/".startswith(f"{self.address}/")


class SentJournal(Journal):
    """A journal whose units go to a store, after the files that they tell of."""

    def __init__(self, path: Path, mirror: Mirror) -> None:
        self.mirror = mirror
        super().__init__(path)

    def append(self, rows: list[Row]) -> None:
        """Send the files, then the rows."""
        self._sent = rows[0]["kind"] != "begin"
        try:
            self.mirror.send(rows)
            self.mirror.beat()
            if rows[0]["kind"] == "run":
                self.mirror.send_views(_KEPT)
            super().append(rows)
        except ConfigError as error:
            raise OSError(str(error)) from error

    def write(self, data: bytes) -> None:
        """Append one unit."""
        if self._sent:
            self.mirror.put(f"{_ROWS}/{self.path.stem}/{self._next:010}.jsonl", data)
        super().write(data)


def open_journal(path: Path, out: Path) -> Journal:
    """Open the journal of a run for writing, wherever its OUT is."""
    mirror = mirror_of(out)
    return SentJournal(path, mirror) if mirror else Journal(path)
