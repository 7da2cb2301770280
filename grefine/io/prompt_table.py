"""Prompts by file name, from CSV, TSV, JSONL or JSON; which columns were taken is said, never silently assumed."""

import csv
import io
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grefine.errors import PromptError, nearest
from grefine.io.generators.found import sound_text
from grefine.io.images import SUFFIXES, read_bytes
from grefine.io.picture import printable

NAME_COLUMNS = ("file_name", "filename", "file", "image", "image_path", "image_file", "path", "filepath", "img")
NAME_COLUMNS += ("name",)
PROMPT_COLUMNS = ("prompt", "positive_prompt", "caption", "text", "description", "title")
_MOST_BYTES = 1024 * 2**20
_LONGEST_CELL = 16 * 2**20


@dataclass(frozen=True, slots=True)
class PromptTable:
    """A table that has been read."""

    path: Path
    prompts: dict[str, str]
    """By normalised name."""
    doubtful: dict[str, str]
    """Names that the table gives two prompts, with a sentence that says where."""
    note: str
    """Which columns were taken, one sentence for the person who runs it."""

    def find(self, relative: str | Path, source: Path | None = None) -> tuple[str, str]:
        """Return (prompt, why not) for an image: by its longest trailing path in the table, then without suffix.

        Both are empty when the table does not name the image.
        """
        for key in _keys(relative, source):
            if key in self.doubtful:
                return "", self.doubtful[key]
            if self.prompts.get(key):
                return self.prompts[key], ""
        return "", ""


def read_prompt_table(
    path: str | Path, name_column: str | None = None, prompt_column: str | None = None
) -> PromptTable:
    """Read a table of prompts."""
    path = Path(path)
    text = _text(path)
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        records, headings = _from_json_lines(text, path)
    elif kind == ".json":
        records, headings = _from_json(text, path)
    else:
        records, headings = _from_csv(text, path, kind == ".tsv")
    first = next(records, None)
    if first is None:
        raise PromptError(f"'{printable(path)}' holds no prompts: give a heading and one line per image.")
    headings = headings or list(first[1])
    names, prompts, guessed = _columns(headings, name_column, prompt_column, path)
    table = PromptTable(path, {}, {}, "")
    for line, record in (first, *records):
        _add(table, record.get(names), record.get(prompts), line)
    how = "taken" if guessed else "as asked"
    note = f"{printable(path.name)}: {len(table.prompts):,} prompts, names from column '{names}', "
    return PromptTable(path, table.prompts, table.doubtful, f"{note}prompts from column '{prompts}' ({how}).")


def safe_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe goes before text that could be one."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _add(table: PromptTable, name: Any, prompt: Any, line: int) -> None:
    if not isinstance(name, (str, int)) or not str(name).strip() or not isinstance(prompt, str):
        return
    key, prompt = _normal(str(name)), sound_text(prompt.strip())
    if not prompt:
        return
    if key in table.prompts and table.prompts[key] != prompt:
        where = f"'{printable(table.path.name)}' names it again in line {line} with another prompt"
        table.doubtful.setdefault(key, where)
    table.prompts.setdefault(key, prompt)


def _text(path: Path) -> str:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise PromptError(f"The table of prompts '{printable(path)}' {what}: give a CSV, TSV, JSONL or JSON file.")
    try:
        data = read_bytes(path, _MOST_BYTES)
    except ValueError as error:
        raise PromptError(str(error)) from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptError(f"'{printable(path)}' line {line} is not UTF-8: save the table as UTF-8.") from error


def _from_csv(text: str, path: Path, tabs: bool) -> tuple[Iterator[tuple[int, dict[str, Any]]], list[str]]:
    head = text[:10_000].split("\n", 1)[0]
    mark = "\t" if tabs or "\t" in head else max(",;|", key=head.count)
    rows = _csv_rows(text, mark, path)
    first = next(rows, None)
    if first is None:
        return iter(()), []
    headings = [cell.strip() for cell in first[1]]
    if len(headings) == 1:
        raise PromptError(f"'{printable(path)}' has one column: a file name and a prompt are needed on each line.")
    if Path(headings[0]).suffix.lower() in SUFFIXES:
        # No heading: the first line is already an image.
        headings = ["1", "2", *map(str, range(3, len(headings) + 1))]
        everything = itertools.chain([first], rows)
        return ((n, dict(zip(headings, cells, strict=False))) for n, cells in everything), headings
    return ((n, dict(zip(headings, cells, strict=False))) for n, cells in rows), headings


def _csv_rows(text: str, mark: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    limit = csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        hint = ", a quote is never closed" if "end of data" in str(error) else ""
        raise PromptError(f"'{printable(path)}' line {reader.line_num} is not CSV: {error}{hint}.") from error
    finally:
        csv.field_size_limit(limit)


def _from_json_lines(text: str, path: Path) -> tuple[Iterator[tuple[int, dict[str, Any]]], list[str]]:
    def records() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise PromptError(f"'{printable(path)}' line {number} is not JSON.") from error
            if not isinstance(record, dict):
                raise PromptError(f"'{printable(path)}' line {number} must be a record: {{...}}.")
            yield number, record

    return records(), []


def _from_json(text: str, path: Path) -> tuple[Iterator[tuple[int, dict[str, Any]]], list[str]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"'{printable(path)}' is not JSON.") from error
    if isinstance(data, dict):
        data = [{"file_name": k} | (v if isinstance(v, dict) else {"prompt": v}) for k, v in data.items()]
    if not isinstance(data, list) or not all(isinstance(record, dict) for record in data):
        raise PromptError(f"'{printable(path)}' must hold a list of records, or names to prompts.")
    return iter(list(enumerate(data, 1))), []


def _columns(headings: list[str], name: str | None, prompt: str | None, path: Path) -> tuple[str, str, bool]:
    if headings[:2] == ["1", "2"] and name is None and prompt is None:
        return "1", "2", True
    return (
        _column(headings, name, NAME_COLUMNS, "file names", path),
        _column(headings, prompt, PROMPT_COLUMNS, "prompts", path),
        name is None or prompt is None,
    )


def _column(headings: list[str], asked: str | None, known: tuple[str, ...], what: str, path: Path) -> str:
    if asked is not None:
        if asked in headings:
            return asked
        raise PromptError(
            f"'{printable(path)}' has no column '{asked}': it has {', '.join(headings[:20])}{nearest(asked, headings)}"
        )
    folded = {heading.lower().replace(" ", "_").replace("-", "_"): heading for heading in reversed(headings)}
    for candidate in known:
        if candidate in folded:
            return folded[candidate]
    raise PromptError(
        f"Which column of '{printable(path)}' holds the {what}? It has {', '.join(headings[:20])}: "
        f"name it, or call it '{known[0]}'."
    )


def _normal(name: str) -> str:
    return "/".join(part for part in name.strip().replace("\\", "/").split("/") if part not in ("", "."))


def _keys(relative: str | Path, source: Path | None) -> Iterator[str]:
    names = [os.fspath(relative)] if source is None else [os.path.abspath(source), os.fspath(relative)]
    paths = [_normal(name).split("/") for name in names]
    for strip in (False, True):
        for parts in paths:
            for start in range(len(parts)):
                key = "/".join(parts[start:])
                if not strip:
                    yield key
                elif "." in parts[-1]:
                    yield key.rpartition(".")[0]
