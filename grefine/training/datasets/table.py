"""Rated pictures from a CSV table: `image,mos[,prompt][,reference][,further score columns]`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from grefine.errors import ConfigError, nearest
from grefine.io.images import printable
from grefine.training.datasets.rated import MOS, RatedImage, RatedImages, rated

IMAGE, PROMPT, REFERENCE = "image", "prompt", "reference"


def read_table(path: str | Path, images: str | Path | None = None, name: str = "") -> RatedImages:
    """Read a CSV table of rated pictures.

    The first line is the heading. `image` is a path relative to the table (or to `images`) or absolute, `mos` the
    opinion score (any scale, high = good). `prompt` (what the picture was made from) and `reference` (which
    pristine picture it is a distortion of) are optional texts; every other column is a further score: `sharpness`.

    Args:
        path: the table.
        images: folder of the pictures, where it is not the table's own.
        name: of the set, in reports; the file's stem without.

    Raises:
        ConfigError: an unreadable table, a missing column, a score that is no number, missing pictures, or a picture
            with two different scores.
    """
    path = Path(path)
    root = path.parent if images is None else Path(images)
    rows = []
    for line, record in read_csv(path, (IMAGE, MOS)):
        picture = record[IMAGE].strip()
        if not picture:
            raise ConfigError(f"'{printable(path)}' line {line} names no image.")
        scores = {c: number(v, c, path, line) for c, v in record.items() if c not in (IMAGE, PROMPT, REFERENCE)}
        content = record.get(REFERENCE, "").strip()
        rows.append(RatedImage(root / picture, scores, record.get(PROMPT, "").strip(), content))
    return rated(name or path.stem, rows, where=path)


def read_csv(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield (line number, record) of a CSV with a heading, checking that `required` columns are in it.

    Raises:
        ConfigError: no such file, no text, no heading, missing columns, or a line of another length.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the table '{printable(path)}': {error}.") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    heading = [column.strip() for column in next(reader, [])]
    for column in required:
        if column not in heading:
            found = ", ".join(heading) or "nothing"
            raise ConfigError(
                f"'{printable(path)}' has no column '{column}'; its heading says {found}{nearest(column, heading)}"
            )
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(heading):
            raise ConfigError(
                f"'{printable(path)}' line {reader.line_num} has {len(row)} cells, its heading {len(heading)}; "
                "texts with commas belong in quotation marks."
            )
        yield reader.line_num, {c: v for c, v in zip(heading, row, strict=True) if c}


def number(text: str, column: str, path: Path, line: int) -> float:
    """Read a score.

    Raises:
        ConfigError: anything but a finite number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"'{printable(path)}' line {line}: the score '{text}' in column '{column}' is no number.")
    return value
