"""The first sheet of an .xlsx file as records: score files come in this form, and a zip of XML needs no library."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from grefine.errors import ConfigError, nearest
from grefine.io.images import printable

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_MOST_BYTES = 256 * 2**20


def read_sheet(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield (line number, record) of the first sheet, whose first row is the heading; empty rows are left out.

    Raises:
        ConfigError: no such file, not a workbook, or a heading without one of the `required` columns.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            shared = _shared_texts(archive)
            sheet = _xml(archive, _first_sheet(archive))
    except (OSError, KeyError, StopIteration, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise ConfigError(f"Cannot read '{printable(path)}' as an .xlsx workbook: {error}.") from error
    heading: dict[int, str] = {}
    for row in sheet.iter(f"{_MAIN}row"):
        line = int(row.get("r", "0"))
        cells = {_column(cell.get("r", "A1")): _text(cell, shared) for cell in row.iter(f"{_MAIN}c")}
        if not any(value.strip() for value in cells.values()):
            continue
        if not heading:
            heading = {column: value.strip() for column, value in cells.items() if value.strip()}
            for column in required:
                if column not in heading.values():
                    raise ConfigError(
                        f"'{printable(path)}' has no column '{column}'; its heading says "
                        f"{', '.join(heading.values())}{nearest(column, heading.values())}"
                    )
            continue
        yield line, {name: cells.get(column, "") for column, name in heading.items()}


def _first_sheet(archive: zipfile.ZipFile) -> str:
    first = next(_xml(archive, "xl/workbook.xml").iter(f"{_MAIN}sheet")).get(_RELATION)
    for relation in _xml(archive, "xl/_rels/workbook.xml.rels"):
        if relation.get("Id") == first:
            target = relation.get("Target", "")
            return target[1:] if target.startswith("/") else f"xl/{target}"
    raise KeyError("no first sheet")


def _shared_texts(archive: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    items = _xml(archive, "xl/sharedStrings.xml").iter(f"{_MAIN}si")
    # A text may be cut into runs of one style each; reading aids for other scripts are no part of it.
    parts = (item.findall(f"{_MAIN}t") + item.findall(f"{_MAIN}r/{_MAIN}t") for item in items)
    return ["".join(part.text or "" for part in texts) for texts in parts]


def _xml(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if archive.getinfo(name).file_size > _MOST_BYTES:
        raise KeyError(f"'{name}' is larger than any table of scores")
    data = archive.read(name)
    if b"<!DOCTYPE" in data[:4096]:
        raise KeyError(f"'{name}' declares a document type, which a workbook does not")
    return ElementTree.fromstring(data)


def _column(reference: str) -> int:
    letters = re.match(r"[A-Z]+", reference)
    value = 0
    for letter in letters.group() if letters else "A":
        value = 26 * value + ord(letter) - ord("A") + 1
    return value


def _text(cell: ElementTree.Element, shared: list[str]) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return "".join(part.text or "" for part in cell.iter(f"{_MAIN}t"))
    value = cell.findtext(f"{_MAIN}v") or ""
    return shared[int(value)] if kind == "s" and value else value
