"""Data sets as sources: rows of a Parquet file, samples of a WebDataset tar, each with its name, place and prompt."""

import json
import os
import tarfile
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from grefine.errors import ConfigError, ImageError
from grefine.io.images import MAX_BYTES, SUFFIXES, read_bytes
from grefine.io.picture import printable
from grefine.io.places import Place, is_address, patiently, place_of, read_range, system_of
from grefine.io.prompt_table import NAME_COLUMNS, PROMPT_COLUMNS
from grefine.io.run_files import is_inside

_TEXTS = (".txt", ".caption", ".prompt", ".cap")
_LONGEST_TEXT = 2**20
_ROWS = 1024
_PICTURES = 16
"""Rows of pictures that are held at once."""
_MAGIC = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"RIFF", ".webp"))


def is_samples(name: str) -> bool:
    """Say whether a source is a data set by its ending."""
    return name.lower().endswith((".parquet", ".tar"))


def list_samples(file: str, prompt_column: str | None = None) -> Iterator[tuple[str, Place]]:
    """Yield (name, place) for every picture of a Parquet file or a tar, in its order."""
    file = file if is_address(file) else os.path.abspath(file)
    system, path = system_of(file)
    info = patiently(file, lambda: system.info(path))
    stamp = place_of(file, system, info).stamp
    listed = _parquet if file.lower().endswith(".parquet") else _tar
    try:
        yield from listed(file, stamp, prompt_column)
    except ConfigError:
        raise
    except Exception as error:  # whatever a damaged file brings about
        raise ConfigError(f"The data set '{printable(file)}' is damaged or none: {type(error).__name__}.") from error


def _tar(file: str, stamp: int, prompt_column: str | None) -> Iterator[tuple[str, Place]]:
    def files() -> Iterator[tarfile.TarInfo]:
        for member in tar:
            tar.members = []  # type: ignore[misc] # it remembers every one
            if member.isfile() and is_inside(member.name):
                yield member

    with open_file(file) as handle, tarfile.open(fileobj=handle, mode="r:") as tar:
        for key, group in groupby(files(), key=lambda member: _key(member.name)):
            members = list(group)
            pictures = [member for member in members if _ending(member.name) in SUFFIXES]
            texts = [member for member in members if member not in pictures and member.size < _LONGEST_TEXT]
            if pictures:
                prompt = next(filter(None, (_text_of(tar, member, prompt_column) for member in texts)), "")
                first = pictures[0]
                place = Place(file, f"{first.offset_data}:{first.size}", first.size, stamp, prompt)
                yield f"{key}{_ending(first.name)}", place


def _key(name: str) -> str:
    folder, slash, base = name.removeprefix("./").rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0] or base}"


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _text_of(tar: tarfile.TarFile, member: tarfile.TarInfo, column: str | None) -> str:
    ending = _ending(member.name)
    if ending not in (*_TEXTS, ".json"):
        return ""
    file = tar.extractfile(member)
    text = file.read().decode("utf-8", "replace") if file else ""
    if ending != ".json":
        return text.strip() if column is None else ""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    names = (column,) if column else PROMPT_COLUMNS
    found = (values[name] for name in names if name in values) if isinstance(values, dict) else ()
    return next((value.strip() for value in found if isinstance(value, str)), "")


def _parquet(file: str, stamp: int, prompt_column: str | None) -> Iterator[tuple[str, Place]]:
    parquet, image, nested, prompt = _columns(file, prompt_column)
    if nested is None:
        asked, ending = [image], ""  # a column of paths
    else:
        asked = [f"{image}.path"] if "path" in nested else []
        first = read_parquet_row(file, 0)
        ending = next((ending for magic, ending in _MAGIC if first.startswith(magic)), ".png")
    columns = [*asked, *([prompt] if prompt else [])] or [parquet.schema_arrow.names[0]]
    rows = (row for batch in parquet.iter_batches(_ROWS, columns=columns) for row in batch.to_pylist())
    for number, row in enumerate(rows):
        text = row.get(prompt) if prompt else ""
        text = text.strip() if isinstance(text, str) else ""
        if nested is None:
            name = str(row.get(image) or "")
            if not name or not is_inside(name) or is_address(name):
                raise ConfigError(
                    f"Row {number:,} of '{printable(file)}' names '{printable(name)}': "
                    "paths must lead below the file's folder."
                )
            yield name, Place(f"{file.rpartition('/')[0]}/{name}", "", 0, 0, text)
        else:
            name = str((row.get(image) or {}).get("path") or "") if asked else ""
            name = name if is_inside(name) else os.path.basename(name)
            yield name or f"{number:08}{ending}", Place(file, str(number), 0, stamp, text)


def _columns(file: str, prompt_column: str | None) -> tuple[Any, str, Sequence[str] | None, str]:
    """Return the file, its column of pictures, that column's parts (None for one of paths), its column of prompts."""
    import_pyarrow()
    import pyarrow
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(open_file(file), pre_buffer=False)
    schema = parquet.schema_arrow
    pictures: dict[str, Sequence[str]] = {}
    for field in schema:
        if pyarrow.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            pictures[field.name] = [field.type.field(i).name for i in range(field.type.num_fields)]
        elif pyarrow.types.is_binary(field.type) or pyarrow.types.is_large_binary(field.type):
            pictures[field.name] = []
    paths = [name for name in NAME_COLUMNS if name in schema.names]
    if prompt_column and prompt_column not in schema.names:
        raise ConfigError(
            f"'{printable(file)}' has no column '{prompt_column}': it has {', '.join(schema.names[:20])}."
        )
    prompt = prompt_column or next((name for name in PROMPT_COLUMNS if name in schema.names), "")
    for name in ("image", "before", *pictures):
        if name in pictures:
            return parquet, name, pictures[name], prompt
    if not paths:
        raise ConfigError(f"'{printable(file)}' has no pictures: no column of bytes, and none of '{NAME_COLUMNS[0]}'.")
    return parquet, paths[0], None, prompt


class _Cursor:
    """One Parquet file that is read forwards, a few pictures at a time."""

    def __init__(self, file: str) -> None:
        self.parquet, self.image, self.nested, _ = _columns(file, None)
        if self.nested is None:
            raise ConfigError(f"'{printable(file)}' holds paths, not pictures.")
        self.group, self.first, self.held, self.batches = -1, 0, [], iter(())

    def read(self, row: int) -> bytes:
        group, start = 0, 0
        while row >= start + (rows := self.parquet.metadata.row_group(group).num_rows):
            group, start = group + 1, start + rows
        opened, self.group = self.group, -1  # begun anew where this does not end well
        if group != opened or row < self.first:
            self.first, self.held = start, []
            self.batches = self.parquet.iter_batches(_PICTURES, row_groups=[group], columns=[self.image])
        while row >= self.first + len(self.held):
            self.first += len(self.held)
            self.held = next(self.batches).column(0)
        value, self.group = self.held[row - self.first].as_py(), group
        return (value.get("bytes") if isinstance(value, dict) else value) or b""


_open = lru_cache(maxsize=4)(_Cursor)
_lock = threading.Lock()


def read_parquet_row(file: str, row: int) -> bytes:
    """Return the picture in a row; quick when rows are asked for in their order."""
    with _lock:
        cursor = _open(file)
        try:
            return patiently(file, lambda: cursor.read(row))
        except ConfigError:
            _open.cache_clear()
            raise


def read_place(source: Path | Place) -> bytes:
    """Return the bytes of a picture, wherever it lies."""
    if isinstance(source, Path):
        return read_bytes(source)
    if source.size > MAX_BYTES:
        raise ImageError(f"'{source}' is too large: {source.size / 2**20:.0f} MiB.")
    try:
        if source.file.lower().endswith(".parquet"):
            data = read_parquet_row(source.file, int(source.part))
        elif source.part:
            start, size = map(int, source.part.split(":"))
            data = read_range(source.file, start, start + size)
        else:
            data = read_range(source.file, None, None)
    except ConfigError as error:
        raise ImageError(str(error)) from error
    if not data:
        raise ImageError(f"'{printable(str(source))}' is empty: the picture has no bytes.")
    return data


def open_file(file: str) -> Any:
    """Open a file at a path or an address for reading here and there."""
    system, path = system_of(file)
    return patiently(file, lambda: system.open(path, "rb"))


def import_pyarrow() -> None:
    """See that Parquet can be read."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow: install 'grefine[datasets]'.") from error
