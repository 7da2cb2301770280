"""Scores that are known already: an append-only file of what was computed, keyed by content."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from grefine.io.content import content_hash
from grefine.io.journal import AppendOnly, whole_lines
from grefine.types import MetricSpec


def score_key(spec: MetricSpec, content: str, *, prompt: str | None, source: str, device: str, probe: str = "") -> str:
    """Return what identifies one scoring: bytes, metric with version and source, the prompt if it counts, device."""
    said = [spec.name, spec.version, content, prompt, source, device, probe]
    return content_hash(json.dumps(said, ensure_ascii=True))[:32]


class ScoreCache:
    """Values by key, kept in a JSONL file that survives being killed at any moment.

    A half-written last line is cut off when the file is opened. Without a path everything stays in memory. Use as a
    context manager.
    """

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

    def __enter__(self) -> "ScoreCache":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
