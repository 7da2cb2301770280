"""Score image files by several metrics into one table that can be taken up again."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, GRefineError, ImageError
from grefine.io.atomic import write_text
from grefine.io.images import LoadedImage, decode_image, read_bytes
from grefine.io.prompt_table import safe_cell
from grefine.io.prompts import PromptSources
from grefine.scorers.learned import DomainScorer
from grefine.scorers.protocol import Scorer

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".ppm"})
_OWN = ("path", "prompt", "forced", "note", "digest")
BATCH = 16


@dataclass
class ScoreTable:
    """One row per file: path, prompt, one column per value, a note where a value is missing and why."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: int = 0
    """Rows that lack a value that was asked for."""
    reused: int = 0
    """Rows taken over from an earlier run."""
    foreign: frozenset[str] = frozenset()
    """Paths of pictures of a world that a metric does not know."""
    told: str = ""
    """What is to be said of them, once."""

    @property
    def columns(self) -> list[str]:
        """Names in the order in which they are written."""
        values = dict.fromkeys(name for row in self.rows for name in row if name not in _OWN)
        forced = ["forced"] if any(row.get("forced") for row in self.rows) else []
        return ["path", "prompt", *values, *forced, "note", "digest"]

    def as_csv(self) -> str:
        """Return the table as CSV; a missing value is an empty cell."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow(row | {name: safe_cell(row.get(name, "")) for name in ("path", "prompt", "note")})
        return text.getvalue()

    def as_json(self) -> str:
        """Return the table as a JSON list of rows."""
        return json.dumps(self.rows, indent=1, ensure_ascii=False)


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Return the files given and, for folders, the images below them, sorted.

    Raises:
        ImageError: nothing there.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found |= dict.fromkeys(
                sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
            )
        elif path.exists():
            found[path] = None
        else:
            raise ImageError(f"There is no file or folder '{path}'.")
    if not found:
        raise ImageError(f"No images below {', '.join(map(str, paths))}; known are {', '.join(sorted(SUFFIXES))}.")
    return list(found)


def score_files(
    paths: Sequence[str | Path],
    scorers: Mapping[str, Scorer],
    *,
    sources: PromptSources | None = None,
    out: str | Path | None = None,
    setup: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> ScoreTable:
    """Score files; with `out` the table is saved after every few files, and rows that are still true are kept.

    Args:
        paths: files and folders.
        scorers: by metric name.
        sources: where prompts come from; by default sidecars and the files' own metadata.
        out: a `.csv` or `.json` file.
        setup: whatever else a value depends on (weights, device), so that another setup is scored anew.
        progress: told one line per few files.

    Raises:
        ConfigError: `out` has another suffix or holds something else.
        ImageError: there is nothing to score.
    """
    out = None if out is None else Path(out)
    if out is not None and out.suffix not in (".csv", ".json"):
        raise ConfigError(f"Scores are written as .csv or .json, not as '{out.name}'.")
    sources = sources or PromptSources()
    files = find_images(paths)
    known = _read(out)
    base = json.dumps({"metrics": sorted(scorers), "setup": dict(setup or {})}, sort_keys=True, default=str)
    table = ScoreTable()
    foreign: dict[str, DomainScorer] = {}
    for start in range(0, len(files), BATCH):
        rows = [_open(path, sources, base) for path in files[start : start + BATCH]]
        fresh = []
        for row, image in rows:
            old = known.get(row["path"])
            if old is not None and old["digest"] == row["digest"] and not old["note"]:
                row |= old
                table.reused += 1
            elif image is not None:
                fresh.append((row, image))
        for scorer in scorers.values():
            _fill(scorer, _known(scorer, fresh, foreign))
        table.rows += [row for row, _ in rows]
        if out is not None:
            _save(table, out)
        progress(f"{len(table.rows)} of {len(files)} images")
    table.failed = sum(bool(row["note"]) for row in table.rows)
    for scorer in list(foreign.values())[:1]:
        table.foreign = frozenset(foreign)
        table.told = scorer.domain.told(len(foreign), len(files), scorer.force)
    return table


def _open(path: Path, sources: PromptSources, base: str) -> tuple[dict[str, Any], LoadedImage | None]:
    row: dict[str, Any] = {"path": str(path), "prompt": "", "note": "", "digest": ""}
    try:
        data = read_bytes(path)
        image = decode_image(data, path)
        chosen = sources.find(image, path.name)
    except GRefineError as error:
        return row | {"note": str(error)}, None
    key = hashlib.sha256(data)
    key.update(json.dumps([base, chosen.prompt]).encode())
    return row | {"prompt": chosen.prompt, "digest": key.hexdigest()[:16]}, image


def _known(
    scorer: Scorer, fresh: list[tuple[dict[str, Any], LoadedImage]], foreign: dict[str, DomainScorer]
) -> list[tuple[dict[str, Any], LoadedImage]]:
    """Return the rows that a metric may judge; those of another world are noted, and marked where they are forced."""
    if not isinstance(scorer, DomainScorer):
        return fresh
    known = []
    for row, image in fresh:
        if not scorer.domain.is_foreign(image.rgb):
            known.append((row, image))
            continue
        foreign[row["path"]] = scorer
        if scorer.force:
            known.append((row, image))
            row["forced"] = "yes"
        else:
            _note(row, f"{scorer.spec.name}: {scorer.domain.reason}")
    return known


def _fill(scorer: Scorer, fresh: list[tuple[dict[str, Any], LoadedImage]]) -> None:
    """Add a metric's values to the rows; a row that fails says why and leaves the others alone."""
    ready = [(row, image) for row, image in fresh if row["prompt"].strip() or not scorer.spec.needs_prompt]
    for row, _ in fresh:
        if scorer.spec.needs_prompt and not row["prompt"].strip():
            _note(row, f"{scorer.spec.name}: no prompt was found.")
    if not ready:
        return
    try:
        scored = scorer([image.rgb for _, image in ready], [row["prompt"] for row, _ in ready])
        for (row, _), values in zip(ready, scored, strict=True):
            row |= dict(values)
    except GRefineError:
        for row, image in ready:
            try:
                row |= dict(scorer([image.rgb], [row["prompt"]])[0])
            except GRefineError as error:
                _note(row, str(error))


def _note(row: dict[str, Any], sentence: str) -> None:
    row["note"] = f"{row['note']} {sentence}".strip()


def _save(table: ScoreTable, out: Path) -> None:
    write_text(out, table.as_csv() if out.suffix == ".csv" else table.as_json())


def _read(out: Path | None) -> dict[str, dict[str, Any]]:
    if out is None or not out.is_file():
        return {}
    try:
        text = out.read_text(encoding="utf-8", errors="surrogateescape")
        rows = json.loads(text) if out.suffix == ".json" else list(csv.DictReader(io.StringIO(text)))
        return {row["path"].removeprefix("'"): _typed(row) for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"'{out}' exists and is no table of scores: give another file.") from error


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    texts = {name: str(row[name]).removeprefix("'") for name in _OWN if name in row}
    return texts | {name: float(value) for name, value in row.items() if name not in _OWN and value not in ("", None)}
