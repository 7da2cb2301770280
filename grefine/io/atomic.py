"""Files that are there whole or not at all: write beside, sync, rename."""

import os
import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

PARTIAL_PREFIX = ".grefine-partial-"
"""Begins the name of every file that is still being written; a killed process may leave some behind."""

_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, whose folder exists, so that a reader sees the old file or the new one, never a part."""
    publish([(stage(path, data), Path(path))])


def write_text(path: str | Path, text: str) -> None:
    """Write a text as `write_atomic` does, and its folders; what no file can hold becomes a mark."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _encoded(text))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text as `write_text` does, some lines at a time: it may be longer than fits into memory."""
    left = iter(lines)
    pieces = iter(lambda: _encoded("".join(islice(left, 1000))), b"")
    publish([(stage(path, pieces), path)])


def _encoded(text: str) -> bytes:
    return _HALVES.sub("\N{REPLACEMENT CHARACTER}", text).encode("utf-8", "surrogateescape")


def stage(path: str | Path, data: bytes | Iterable[bytes]) -> Path:
    """Write `data`, or its pieces, beside `path` and wait until it is on disk; return where it lies."""
    partial = Path(path).with_name(f"{PARTIAL_PREFIX}{uuid.uuid4().hex}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            for piece in (data,) if isinstance(data, bytes) else data:
                write_all(descriptor, piece)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return partial


def publish(staged: Iterable[tuple[Path, Path]]) -> None:
    """Give staged files their names, and make the names durable, one sync per folder."""
    staged = list(staged)
    try:
        for partial, path in staged:
            os.replace(partial, path)
    except BaseException:
        discard(partial for partial, _ in staged)
        raise
    for folder in sorted({path.parent for _, path in staged}):
        sync_folder(folder)


def discard(partials: Iterable[Path]) -> None:
    """Delete staged files that will not be published."""
    for partial in partials:
        partial.unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte: the system may take fewer than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable; systems that cannot open a folder need no such call."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_partials(folder: Path) -> None:
    """Delete what killed writers left in `folder` (not below it)."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PARTIAL_PREFIX) and entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)
