"""Scores that are known already: an append-only file of what was computed, keyed by content."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from grefine.types import MetricSpec


def content_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def score_key(spec: MetricSpec, content: str, *, prompt: str | None, source: str, device: str, probe: str = "") -> str:
    """Return what identifies one scoring: the image's bytes, the metric's version and source, the prompt if it counts.

    Args:
        spec: the metric.
        content: hash of the image (for measures of change: of both images).
        prompt: None for a metric that does not look at it.
        source: which weights judged, e.g. a pipeline's folder.
        device: scores of different devices differ in the last digits, so they are kept apart.
        probe: name of the perturbation in a noise measurement.
    """
    said = [spec.name, spec.version, content, prompt, source, device, probe]
    return hashlib.sha256(json.dumps(said, ensure_ascii=True).encode()).hexdigest()[:32]


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
            self._read(Path(path))
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__

    def _read(self, path: Path) -> None:
        if not path.is_file():
            return
        whole = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                try:
                    record = json.loads(line)
                    values = {str(k): math.nan if v is None else float(v) for k, v in record["values"].items()}
                    self._values[str(record["key"])] = values
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
        if whole < path.stat().st_size:
            os.truncate(path, whole)

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
        stored = {name: value if math.isfinite(value) else None for name, value in clean.items()}
        if self._file is not None:
            self._file.write(json.dumps({"key": key, "values": stored}) + "\n")
            self._file.flush()

    def __enter__(self) -> ScoreCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
