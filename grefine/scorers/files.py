"""Judge picture files: what is known is not computed again, and a picture that a judge refuses costs no other."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache as remembered
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grefine.cluster import active, packed, work_on
from grefine.errors import ConfigError, GRefineError
from grefine.io.atomic import write_text
from grefine.io.content import content_hash
from grefine.io.images import decode_image, read_bytes, read_image
from grefine.io.journal import AppendOnly, whole_lines
from grefine.io.picture import LoadedImage
from grefine.io.prompt_table import safe_cell
from grefine.io.prompts import PromptSources
from grefine.io.walk import pictures_of
from grefine.scorers.protocol import Scorer, rate
from grefine.scorers.resolve import Judge, fingerprint_of
from grefine.types import MetricSpec

if TYPE_CHECKING:
    from PIL import Image

    from grefine.indicators.domain_check import DomainCheck

_OWN = ("path", "prompt", "forced", "note", "digest")
BATCH = 16


def score_key(spec: MetricSpec, content: str, *, prompt: str | None, source: str, device: str, probe: str = "") -> str:
    """Return what identifies one scoring: bytes, metric with version and source, the prompt if it counts, device."""
    said = [spec.name, spec.version, content, prompt, source, device, probe]
    return content_hash(json.dumps(said, ensure_ascii=True))[:32]


class ScoreCache:
    """Values by key, with a path in a JSONL file that survives being killed at any moment. A context manager."""

    def __init__(self, path: str | Path | None = None) -> None:
        self.computed = 0
        self.reused = 0
        self._values: dict[str, dict[str, float]] = {}
        self._file = None
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            lines, whole = whole_lines(path)
            for line in lines:
                with suppress(ValueError, KeyError, TypeError, AttributeError):
                    record = json.loads(line)
                    values = {str(k): math.nan if v is None else float(v) for k, v in record["values"].items()}
                    self._values[str(record["key"])] = values
            self._file = AppendOnly(path, whole, durable=False)

    def get(self, key: str) -> dict[str, float] | None:
        """Return the values of `key`, or None when they have to be computed."""
        values = self._values.get(key)
        self.reused += values is not None
        return values

    def peek(self, key: str) -> dict[str, float] | None:
        """Return the values of `key` without counting it as reuse."""
        return self._values.get(key)

    def put(self, key: str, values: Mapping[str, float], *, count: bool = True) -> None:
        """Store values; a killed process loses none of them. NaN is stored too: it is a result."""
        clean = {name: float(value) for name, value in values.items()}
        self._values[key] = clean
        self.computed += count
        if self._file is not None:
            stored = {name: value if math.isfinite(value) else None for name, value in clean.items()}
            self._file.write((json.dumps({"key": key, "values": stored}) + "\n").encode())

    def __enter__(self) -> ScoreCache:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(frozen=True, slots=True)
class Task:
    """One picture for one judge."""

    open: Callable[[], Image.Image | None]
    """The picture; None when there is nothing to judge."""
    prompt: str = ""


def foreign_among(
    judge: Judge, pictures: Iterable[tuple[str, str, Callable[[], Image.Image]]], cache: ScoreCache
) -> set[str]:
    """Return the pictures of a world that a judge was never taught: each has a name, its content, what opens it."""
    if judge.domain is None:
        return set()
    net = fingerprint_of(judge.domain.folder) if judge.domain.folder else judge.domain.world.name
    found = set()
    for name, content, open_ in pictures:
        key = f"foreign:{net}:{content}"
        known = cache.peek(key)
        if known is None:
            known = {"foreign": float(judge.domain.is_foreign(open_()))}
            cache.put(key, known, count=False)
        if known["foreign"]:
            found.add(name)
    return found


def judge_pictures(
    spec: MetricSpec,
    load: Callable[[], Scorer],
    tasks: Sequence[Task],
    progress: Callable[[str], None] | None = None,
) -> Iterator[Mapping[str, float] | GRefineError]:
    """Yield the values of every picture, or why the judge refuses it; the judge is loaded only where one is asked."""
    batches = [tasks[start : start + BATCH] for start in range(0, len(tasks), BATCH)]
    if batches and (cluster := active()):
        found = work_on(cluster, _Judging, {"spec": spec, "load": load}, map(packed, batches))
    else:
        found = map(_Judging(spec, load), batches) if batches else ()
    done = 0
    for answers in found:
        yield from answers
        done += len(answers)
        if progress is not None:
            progress(f"{spec.name}: {done} of {len(tasks)}")


class _Judging:
    """One judge, loaded once, here or on a machine of a cluster."""

    def __init__(self, spec: MetricSpec, load: Callable[[], Scorer]) -> None:
        self.spec, self.scorer = spec, load()

    def __call__(self, tasks: Sequence[Task]) -> list[Mapping[str, float] | GRefineError]:
        """Return the values of every picture; none where there is nothing to judge."""
        opened = [(task, task.open()) for task in tasks]
        batch = [(task.prompt, image) for task, image in opened if image is not None]
        prompts = [prompt for prompt, _ in batch] if self.spec.needs_prompt else None
        found = iter(rate(self.scorer, [image for _, image in batch], prompts) if batch else ())
        return [{} if image is None else next(found) for _, image in opened]


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


def score_files(
    paths: Sequence[str | Path],
    judges: Sequence[Judge],
    *,
    sources: PromptSources | None = None,
    out: str | Path | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda _line: None,
) -> ScoreTable:
    """Score files; with `out` the table is saved after every few files, and rows that are still true are kept."""
    out = None if out is None else Path(out)
    if out is not None and out.suffix not in (".csv", ".json"):
        raise ConfigError(f"Scores are written as .csv or .json, not as '{out.name}'.")
    sources = sources or PromptSources()
    files = [path for path, _ in pictures_of(paths)]
    known = _read(out)
    loaders = {judge.spec.name: judge.load if active() else remembered(judge.load) for judge in judges}
    facts: list[list[Any]] = []
    for judge in judges:  # what its values depend on beside picture and prompt
        facts.append([judge.spec.name, judge.spec.version, judge.source, judge.device])
        if judge.domain is not None:
            facts[-1] += [fingerprint_of(judge.domain.folder) if judge.domain.folder else "", force]
    base = json.dumps(facts)
    table = ScoreTable()
    foreign: dict[str, DomainCheck] = {}
    # On a cluster each judge is loaded once for all files, and reads them itself.
    at_once = max(len(files), 1) if active() else BATCH
    for start in range(0, len(files), at_once):
        rows = []
        fresh = []
        for path in files[start : start + at_once]:
            row, image = _open(path, sources, base)
            rows.append(row)
            old = known.get(row["path"])
            if old is not None and old["digest"] == row["digest"] and not old["note"]:
                row |= old
                table.reused += 1
            elif image is not None:
                opened = partial(_picture, path.absolute()) if active() else partial(getattr, image, "rgb")
                fresh.append((row, opened))
        for judge in judges:
            _fill(judge, loaders[judge.spec.name], fresh, foreign, force)
        table.rows += rows
        if out is not None:
            write_text(out, table.as_csv() if out.suffix == ".csv" else table.as_json())
        progress(f"{len(table.rows)} of {len(files)} images")
    table.failed = sum(bool(row["note"]) for row in table.rows)
    table.foreign = frozenset(foreign)
    for domain in list(foreign.values())[:1]:
        table.told = domain.told(len(foreign), len(files), force)
    return table


def _picture(path: Path) -> Image.Image:
    return read_image(path).rgb


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


def _fill(
    judge: Judge,
    load: Callable[[], Scorer],
    fresh: Sequence[tuple[dict[str, Any], Callable[[], Any]]],
    foreign: dict[str, DomainCheck],
    force: bool,
) -> None:
    """Add a judge's values to rows, each with what opens its picture; a refused one says why and costs no other."""
    rows, tasks = [], []
    for row, picture in fresh:
        if judge.domain is not None and judge.domain.is_foreign(picture()):
            foreign[row["path"]] = judge.domain
            if not force:
                _note(row, f"{judge.spec.name}: {judge.domain.reason}")
                continue
            row["forced"] = "yes"
        if judge.spec.needs_prompt and not row["prompt"].strip():
            _note(row, f"{judge.spec.name}: no prompt was found.")
        else:
            rows.append(row)
            tasks.append(Task(picture, row["prompt"]))
    for row, found in zip(rows, judge_pictures(judge.spec, load, tasks), strict=True):
        if isinstance(found, GRefineError):
            _note(row, str(found))
        else:
            row |= found


def _note(row: dict[str, Any], sentence: str) -> None:
    row["note"] = f"{row['note']} {sentence}".strip()


def _read(out: Path | None) -> dict[str, dict[str, Any]]:
    if out is None or not out.is_file():
        return {}
    known = {}
    try:
        text = out.read_text(encoding="utf-8", errors="surrogateescape")
        for row in json.loads(text) if out.suffix == ".json" else csv.DictReader(io.StringIO(text)):
            texts = {name: str(row[name]).removeprefix("'") for name in _OWN if name in row}
            values = {name: float(v) for name, v in row.items() if name not in _OWN and v not in ("", None)}
            known[row["path"].removeprefix("'")] = texts | values
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"'{out}' exists and is no table of scores: give another file.") from error
    return known
