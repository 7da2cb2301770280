"""What earlier starts of a run have done: read from its journal, kept small, asked image by image."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError
from grefine.folder.options import FolderOptions
from grefine.folder.worklist import WorkItem
from grefine.io.atomic import remove_partials
from grefine.io.images import printable
from grefine.io.journal import read_journal
from grefine.io.run_files import JOURNAL, STATE_FOLDER

THERE = "its result is already there"
_WORDS = {
    "version": "the version of grefine",
    "pipeline": "the pipeline",
    "weights": "the pipeline's weights",
    "config": "the refinement settings",
    "options": "how files are written",
    "seed": "the seed",
    "prompts": "the prompts",
    "loras": "the folder of LoRAs",
    "gate": "the gate",
}


class Ledger:
    """The state of a run as its journal tells it. Holds 8-byte names, so that 100,000 images stay small."""

    def __init__(self, out: Path) -> None:
        self.path = out / STATE_FOLDER / JOURNAL
        self.header: dict[str, Any] | None = None
        self.finished = False
        self.counts: Counter[str] = Counter()
        self._done: set[bytes] = set()
        self._same: set[bytes] = set()
        self._failed: set[bytes] = set()
        self._begun: set[bytes] = set()
        self._folders: set[str] = set()

    def read(self) -> None:
        """Read the journal, and delete what a killed writer left beside its files."""
        for row in read_journal(self.path):
            kind = row.get("kind")
            if kind == "run":
                self.header, self.finished = row.get("header"), False
            elif kind == "begin":
                self.finished = False
                self._begun |= {_name(file) for file in row.get("files", ())}
                self._folders = set(row.get("folders", ()))
            elif kind == "image":
                self._add(row)
            elif kind == "end":
                self.finished = True

    def _add(self, row: dict[str, Any]) -> None:
        key = _name(row["file"])
        given = row.get("input") or {}
        self._begun.discard(key)
        if row["state"] == "failed":
            self._failed.add(key)
        else:
            self._failed.discard(key)
            self._done.add(key)
            self._same.add(_name(row["file"], given.get("bytes"), given.get("mtime_ns")))
        self.counts[row["state"]] += 1

    def check(self, header: dict[str, Any]) -> str:
        """Return what differs between the settings of the journal and those of now, in words; empty when nothing."""
        then = self.header or {}
        changed = [_WORDS[name] for name in _WORDS if self.header is not None and then.get(name) != header.get(name)]
        return ", ".join(changed)

    def clean(self, out: Path) -> None:
        """Remove half-written files where the last unfinished batch was being written."""
        for folder in {out, out / STATE_FOLDER, *(out / name for name in self._folders)}:
            if folder.is_dir():
                remove_partials(folder)
            panels = out / "panels" / folder.relative_to(out)
            if panels.is_dir():
                remove_partials(panels)

    def verdict(self, item: WorkItem, options: FolderOptions) -> str:
        """Return "work", "done" (say nothing), or THERE when a result stands in its place that no journal tells of."""
        key = _name(item.relative)
        if key in self._failed and not options.retry_failed:
            return "done"
        there = os.path.lexists(item.output)
        if key in self._done and (item.refused or there) and (options.overwrite != "older" or self._unchanged(item)):
            return "done"
        if options.overwrite == "always" or key in self._begun or not there:
            return "work"
        if options.overwrite == "older" and _younger(item.source, item.output):
            return "work"
        return THERE

    def _unchanged(self, item: WorkItem) -> bool:
        try:
            status = os.stat(item.source)
        except OSError:
            return True
        return _name(item.relative, status.st_size, status.st_mtime_ns) in self._same

    def put_aside(self) -> None:
        """Give the journal another name, so that a new one can begin."""
        number = 1
        while (aside := self.path.with_name(f"journal-{number}.jsonl")).exists():
            number += 1
        os.replace(self.path, aside)


def open_ledger(out: Path, header: dict[str, Any], options: FolderOptions) -> Ledger:
    """Read what is known of a run into OUT, and decide whether it goes on or begins anew.

    Raises:
        ConfigError: OUT holds a run with other settings, and nothing says that it may be replaced.
    """
    ledger = Ledger(out)
    ledger.read()
    changed = ledger.check(header)
    if ledger.header is not None and options.overwrite == "always" and (changed or ledger.finished):
        ledger.put_aside()
        ledger = Ledger(out)
    elif changed:
        raise ConfigError(
            f"'{printable(out)}' holds results of other settings: {changed} changed. Give --overwrite always to begin "
            "anew, or another OUT."
        )
    ledger.clean(out)
    return ledger


def _younger(source: Path, output: Path) -> bool:
    try:
        return os.stat(source).st_mtime_ns > os.stat(output).st_mtime_ns
    except OSError:
        return True


def _name(*parts: object) -> bytes:
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=8).digest()
