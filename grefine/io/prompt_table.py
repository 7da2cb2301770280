"""Prompts by file name, from CSV, TSV, JSONL or JSON; which columns were taken is said, never silently assumed."""

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grefine.errors import PromptError
from grefine.io.generators.found import sound_text
from grefine.io.images import read_bytes
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
        """Return (prompt, why not) for an image: by its longest trailing path in the table, then without suffix."""
        names = [os.fspath(relative)] if source is None else [os.path.abspath(source), os.fspath(relative)]
        paths = [_normal(name).split("/") for name in names]
        whole = ["/".join(parts[start:]) for parts in paths for start in range(len(parts))]
        for key in (*whole, *(key.rpartition(".")[0] for key in whole if "." in key.rpartition("/")[2])):
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
    records = _records(_text(path), path)
    first = next(records, None)
    if first is None:
        raise PromptError(f"'{printable(path)}' holds no prompts: give a heading and one line per image.")
    headings, asked = list(first[1]), (name_column, prompt_column)
    names = _column(headings, name_column, NAME_COLUMNS, "file names", path)
    prompts = _column(headings, prompt_column, PROMPT_COLUMNS, "prompts", path)
    found: dict[str, str] = {}
    doubtful: dict[str, str] = {}
    for line, record in (first, *records):
        name, prompt = record.get(names), record.get(prompts)
        if not isinstance(name, (str, int)) or not isinstance(prompt, str):
            continue
        if not str(name).strip() or not (prompt := sound_text(prompt.strip())):
            continue
        if found.setdefault(key := _normal(str(name)), prompt) != prompt:
            where = f"'{printable(path.name)}' names it again in line {line} with another prompt"
            doubtful.setdefault(key, where)
    how = "taken" if None in asked else "as asked"
    note = f"{printable(path.name)}: {len(found):,} prompts, names from column '{names}', "
    return PromptTable(path, found, doubtful, f"{note}prompts from column '{prompts}' ({how}).")


def safe_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe goes before text that could be one."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def decoded(data: bytes) -> str:
    """Return a text file's content: UTF-16 by its mark, else UTF-8."""
    return data.decode("utf-16", "replace") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else data.decode("utf-8-sig")


def _text(path: Path) -> str:
    try:
        data = read_bytes(path, _MOST_BYTES)
        return decoded(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptError(f"'{printable(path)}' line {line} is not UTF-8: save the table as UTF-8.") from error
    except ValueError as error:
        raise PromptError(f"The table of prompts {error}") from error


def _records(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the lines of a table as records, each with its number."""
    kind, name = path.suffix.lower(), f"'{printable(path)}'"
    if kind in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                record = _json(line, f"{name} line {number} is not JSON.")
                if not isinstance(record, dict):
                    raise PromptError(f"{name} line {number} must be a record: {{...}}.")
                yield number, record
    elif kind == ".json":
        data = _json(text, f"{name} is not JSON.")
        if isinstance(data, dict):
            data = [{"file_name": k} | (v if isinstance(v, dict) else {"prompt": v}) for k, v in data.items()]
        if not isinstance(data, list) or not all(isinstance(record, dict) for record in data):
            raise PromptError(f"{name} must hold a list of records, or names to prompts.")
        yield from enumerate(data, 1)
    else:
        head = text[:10_000].split("\n", 1)[0]
        mark = "\t" if kind == ".tsv" or "\t" in head else max(",;|", key=head.count)
        headings: list[str] = []
        for number, cells in _csv_rows(text, mark, path):
            if not headings:
                headings = [cell.strip() for cell in cells]
                if len(headings) == 1:
                    raise PromptError(f"{name} has one column: a file name and a prompt are needed on each line.")
            else:
                yield number, dict.fromkeys(headings) | dict(zip(headings, cells, strict=False))


def _json(text: str, told: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(told) from error


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


def _column(headings: list[str], asked: str | None, known: tuple[str, ...], what: str, path: Path) -> str:
    folded = {heading.lower().replace(" ", "_").replace("-", "_"): heading for heading in reversed(headings)}
    taken = {asked} & set(headings) if asked else [folded[name] for name in known if name in folded]
    if not taken:
        named = f"no column '{asked}'" if asked else f"no column that is known to hold {what}"
        raise PromptError(f"'{printable(path)}' has {named}: name one of {', '.join(headings[:20])}.")
    return next(iter(taken))


def _normal(name: str) -> str:
    return "/".join(part for part in name.strip().replace("\\", "/").split("/") if part not in ("", "."))
