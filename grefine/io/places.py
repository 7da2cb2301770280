"""Pictures that are no files of this machine: at an address (fsspec), in a tar, in a row of a Parquet file."""

import hashlib
import os
import random
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from grefine.errors import ConfigError
from grefine.io.picture import printable
from grefine.resources import cache_folder

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PART = re.compile(r"(.+\.(?:parquet|tar))#([0-9]+(?::[0-9]+)?)", re.DOTALL)
_SECRET = re.compile("key|secret|token|sig|credential|password", re.IGNORECASE)
_TRIES = 6
"""How often something is asked of a store before it is given up."""
WAIT = 0.5
"""Seconds before the second try; every further one waits twice as long."""
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, ValueError)
_UNKNOWN = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "GatedRepoError")
_COPIES, _IN_USE = 3, 3600.0
"""Copies of folders that are kept, and for how many seconds one that was used is kept beside them."""
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one picture lies, and the prompt that lies beside it."""

    file: str
    """A path or an address."""
    part: str = ""
    """Of a Parquet file the row, of a tar the first byte and the number of bytes."""
    size: int = 0
    stamp: int = 0
    """Changes when the file does."""
    prompt: str = ""

    def __str__(self) -> str:
        return f"{self.file}#{self.part}" if self.part else self.file


def is_address(text: object) -> bool:
    """Say whether a source or a target is at an address, e.g. `s3://bucket/folder`."""
    return isinstance(text, str) and bool(_ADDRESS.match(text))


def place_at(text: str) -> Path | Place:
    """Return what a journal's `source` names."""
    if part := _PART.fullmatch(text):
        return Place(part[1], part[2])
    return Place(text) if is_address(text) else Path(text)


def read_range(file: str, start: int | None, end: int | None) -> bytes:
    """Return bytes of a file at a path or an address."""
    system, path = system_of(file)
    return patiently(file, lambda: system.cat_file(path, start, end))


def system_of(address: str) -> tuple[Any, str]:
    """Return the file system of an address (or a path), and the path in it."""
    from fsspec.core import url_to_fs

    split = urlsplit(address) if is_address(address) else None
    if split and (split.username or split.password or any(_SECRET.search(name) for name, _ in parse_qsl(split.query))):
        raise ConfigError(
            f"An address at '{split.scheme}://{printable(split.hostname or '')}' holds a name, a key or a token: "
            "leave it out, credentials are taken from the environment."
        )
    try:
        return url_to_fs(address, use_listings_cache=False) if split else url_to_fs(address)
    except (ImportError, ValueError) as error:
        hint = "install 'grefine[s3]'" if split and split.scheme == "s3" else "install the fsspec package for it"
        scheme = split.scheme if split else ""
        raise ConfigError(f"'{printable(address)}' cannot be opened: nothing serves {scheme}://; {hint}.") from error
    except Exception as error:
        raise ConfigError(refusal(address, error)) from error


def patiently(address: str, call: Callable[[], Found]) -> Found:
    """Ask a store for something, again and ever more slowly while it fails."""
    for turn in range(_TRIES):
        try:
            return call()
        except Exception as error:
            final = isinstance(error, _FINAL) or type(error).__name__ in _UNKNOWN or turn == _TRIES - 1
            if final:
                raise ConfigError(refusal(address, error)) from error
            time.sleep(WAIT * 2**turn * random.uniform(0.5, 1.5))
    raise AssertionError


def refusal(address: str, error: BaseException) -> str:
    """Say why a store did not do what it was asked."""
    name = f"'{printable(address)}'"
    if isinstance(error, FileNotFoundError):
        return f"{name} does not exist."
    if isinstance(error, PermissionError) or type(error).__name__ in _UNKNOWN:
        return f"{name} may not be used: the environment's credentials give no right to it."
    return f"{name} cannot be reached ({type(error).__name__}), {_TRIES} times in a row."


def walk_address(address: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield (path below, files) for a folder at an address, folder by folder by name; a file yields itself alone."""
    system, root = system_of(address)
    info = patiently(address, lambda: system.info(root))
    if info["type"] == "file":
        yield "", [info]
        return
    left = [(info["name"].rstrip("/"), "")]
    while left:
        folder, path = left.pop()
        listed = sorted(patiently(address, partial(system.ls, folder, detail=True)), key=lambda entry: entry["name"])
        found = [(name, entry) for entry in listed if (name := entry["name"].rstrip("/")) != folder]
        yield path, [entry for _, entry in found if entry["type"] == "file"]
        below = [name for name, entry in found if entry["type"] == "directory"]
        left += [(name, f"{path}{name.rpartition('/')[2]}/") for name in reversed(below)]


def place_of(address: str, system: Any, info: dict[str, Any]) -> Place:
    """Return the place of a file that a listing told of."""
    marks = [info.get(name) for name in ("ETag", "etag", "LastModified", "mtime", "created", "sha256", "blob_id")]
    return Place(
        system.unstrip_protocol(info["name"]), "", int(info.get("size") or 0), zlib.crc32(repr(marks).encode())
    )


def fetched(file: str | Path, folder: Path) -> Path:
    """Return a table as a file of this machine: one at an address is copied into a folder under its own name."""
    if not is_address(file):
        return Path(file)
    path = folder / os.path.basename(urlsplit(str(file)).path)
    path.write_bytes(read_range(str(file), None, None))
    return path


def here(folder: str | Path) -> str | Path:
    """Return a folder on this machine; one at an address is copied into the cache, and anew when something changes."""
    if not is_address(folder):
        return folder
    address = str(folder)
    system, _ = system_of(address)
    found = {f"{below}{os.path.basename(one['name'])}": one for below, files in walk_address(address) for one in files}
    if any(name in ("", ".", "..") for path in found for name in path.split("/")):
        raise ConfigError(f"'{printable(address)}' holds a file whose name is no path.")
    marks = [(name, place_of(address, system, info)) for name, info in sorted(found.items())]
    home = cache_folder() / "addresses"
    copy = home / hashlib.sha256(repr(marks).encode()).hexdigest()[:16] / address.rstrip("/").rpartition("/")[2]
    try:
        if not copy.is_dir():
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home, ignore_cleanup_errors=True) as half:
                for name, info in found.items():
                    file = Path(half, copy.name, name)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    patiently(f"{address}/{name}", partial(system.get_file, info["name"], str(file)))
                with suppress(OSError):  # of two processes that copy at once the first one's stays
                    os.rename(half, copy.parent)
        os.utime(copy.parent)
        others = sorted((one for one in home.iterdir() if one != copy.parent), key=lambda one: -one.stat().st_mtime)
        for old in others[_COPIES - 1 :]:
            if time.time() - old.stat().st_mtime > _IN_USE:
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        told = f"'{printable(address)}' cannot be copied to '{home}': {error.strerror or error}."
        raise ConfigError(told) from error
    return copy
