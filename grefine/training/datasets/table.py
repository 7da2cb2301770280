"""Rated pictures from a table (CSV or .xlsx), image,mos[,prompt][,reference][,further scores], and MATLAB's files."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from grefine.errors import ConfigError, nearest
from grefine.io.picture import printable
from grefine.training.datasets.rated import MOS, RatedImage, RatedImages, rated

IMAGE, PROMPT, REFERENCE = "image", "prompt", "reference"


def read_table(path: str | Path, images: str | Path | None = None) -> RatedImages:
    """Read a table of rated pictures (docs/training.md); its paths are relative to it, or to `images`."""
    path = Path(path)
    root = path.parent if images is None else Path(images)
    rows = []
    for line, record in read_records(path, (IMAGE, MOS)):
        picture = record[IMAGE].strip()
        if not picture:
            raise ConfigError(f"'{printable(path)}' line {line} names no image.")
        scores = {c: number(v, c, path, line) for c, v in record.items() if c not in (IMAGE, PROMPT, REFERENCE)}
        content = record.get(REFERENCE, "").strip()
        rows.append(RatedImage(root / picture, scores, record.get(PROMPT, "").strip(), content))
    return rated(path.stem, rows, where=path)


def read_records(
    path: Path, required: tuple[str, ...], named: tuple[str, ...] = ()
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield (line number, record) of a CSV, or of the first sheet of an .xlsx file; the first line is the heading.

    With `named` the first columns are called so: in a workbook whatever its heading says, and in a text without one.
    """
    if path.suffix.lower() == ".xlsx":
        rows = _sheet(path)
        if named:
            next(rows, None)
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"Cannot read the table '{printable(path)}': {error}.") from error
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = ((reader.line_num, row) for row in reader)
    if named:
        for line, row in rows:
            cells = row if len(row) >= len(named) else re.split(r"[,\s]+", " ".join(row).strip())
            if len(cells) < len(named):
                raise ConfigError(f"'{printable(path)}' line {line} has no {' and '.join(named)}.")
            yield line, dict(zip(named, cells, strict=False))
        return
    heading = [column.strip() for column in next(rows, (0, []))[1]]
    for column in required:
        if column not in heading:
            found = ", ".join(heading) or "nothing"
            raise ConfigError(
                f"'{printable(path)}' has no column '{column}'; its heading says {found}{nearest(column, heading)}"
            )
    for line, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(heading):
            raise ConfigError(
                f"'{printable(path)}' line {line} has {len(row)} cells, its heading {len(heading)}; "
                "texts with commas belong in quotation marks."
            )
        yield line, {c: v for c, v in zip(heading, row, strict=True) if c}


def _sheet(path: Path) -> Iterator[tuple[int, list[str]]]:
    from openpyxl import load_workbook

    try:
        rows = list(load_workbook(path, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True))
    except Exception as error:  # noqa: BLE001 - the reader raises whatever it meets in a damaged file
        raise ConfigError(f"Cannot read '{printable(path)}' as an .xlsx workbook: {error}.") from error
    return ((line, ["" if cell is None else str(cell) for cell in row]) for line, row in enumerate(rows, 1))


def number(text: str, column: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"'{printable(path)}' line {line}: the score '{text}' in column '{column}' is no number.")
    return value


def read_mat(path: Path, fields: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """Return fields by name: cells of texts as lists, numbers as arrays in MATLAB's own order of axes."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise ConfigError(f"Cannot read '{printable(path)}': {error.strerror or error}.") from error
    # HDF5 allows a block of the owner's before its own first byte; MATLAB puts 512 bytes there.
    if b"\x89HDF\r\n\x1a\n" in head:
        found = _hdf5(path, (*fields, *optional))
    else:
        try:
            stored = loadmat(path)
        except (ValueError, TypeError, NotImplementedError, OSError, MatReadError) as error:
            raise ConfigError(f"'{printable(path)}' is no MATLAB file: {error}.") from error
        found = {name: stored[name] for name in (*fields, *optional) if name in stored}
        for name, value in found.items():
            if value.dtype == object:
                found[name] = ["".join(map(str, np.ravel(v))) for v in value.flatten("F")]
    for name in fields:
        if name not in found:
            raise ConfigError(f"'{printable(path)}' has no field '{name}'; it should hold {', '.join(fields)}.")
    return found


def _hdf5(path: Path, names: Sequence[str]) -> dict[str, Any]:
    import h5py

    with h5py.File(path, "r") as file:
        found: dict[str, Any] = {name: file[name][()].T for name in names if name in file}  # type: ignore[index]
        for name, value in found.items():
            if value.dtype == h5py.ref_dtype:
                # Texts are UTF-16 code units; an empty one is stored as its size, which is no text.
                codes: list[Any] = [file[reference][()] for reference in value.flatten()]  # type: ignore[index]
                texts = (c.T.flatten().tobytes() if c.dtype == np.uint16 else b"" for c in codes)
                found[name] = [text.decode("utf-16-le", "replace") for text in texts]
    return found
