"""What earlier starts of a run have done: read from its journal, kept small, asked image by image."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, ImageError
from grefine.folder.mirror import mirror_of
from grefine.folder.options import FolderOptions
from grefine.folder.shards import Shard, is_running, journals, own_journal
from grefine.folder.worklist import WorkItem
from grefine.io.atomic import remove_partials
from grefine.io.content import content_hash
from grefine.io.picture import printable
from grefine.io.run_files import JOURNAL, STATE_FOLDER, run_rows
from grefine.refine.settings import settings_digest

THERE = "another file stands where its result belongs; --overwrite always replaces it, another OUT leaves it"
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
    "steering": "the precision, added judges, who redraws, who draws the maps, plans or masks",
}


class Ledger:
    """The state of a run as its journal tells it. Holds 8-byte names, so that 100,000 images stay small."""

    def __init__(self, out: Path, path: Path | None = None, others: Iterable[Path] = ()) -> None:
        self.path = path or out / STATE_FOLDER / JOURNAL
        """The journal that this start goes on with."""
        self._others = [other for other in others if other != self.path]
        self.header: dict[str, Any] | None = None
        self.headers: list[dict[str, Any]] = []
        """The last header of every journal."""
        self.finished = False
        self._made: dict[bytes, bytes] = {}
        """Name to what its input was: 8 bytes of its state on disk, 8 of its content; empty for a skipped one."""
        self._failures: Counter[bytes] = Counter()
        self._begun: set[bytes] = set()
        self._folders: set[str] = set()

    def read(self) -> None:
        """Read the journals, this start's own last."""
        for path in (*self._others, self.path):
            self.header, self.finished = None, False
            for row in run_rows(path):
                self.take(row)
            self.headers += [self.header] if self.header is not None else []
        self.header = self.headers[-1] if self.headers else None

    def take(self, row: dict[str, Any]) -> None:
        """Learn from one row of a journal."""
        kind = row.get("kind")
        if kind == "run":
            self.header, self.finished = header_of(row), False
        elif kind == "begin":
            self.finished = False
            self._begun |= {_name(file) for file in row.get("files", ())}
            self._folders |= set(row.get("folders", ()))
        elif kind == "image":
            key, given = _name(row["file"]), row.get("input") or {}
            self._begun.discard(key)
            if row["state"] == "failed":
                self._failures[key] += 1
                self._made.pop(key, None)
            else:
                self._failures.pop(key, None)
                state = _name(*(given.get(part) for part in ("bytes", "mtime_ns", "ctime_ns")))
                self._made[key] = state + bytes.fromhex(given["sha256"])[:8] if given else b""
        elif kind == "end":
            self.finished = True

    @property
    def resumed(self) -> int:
        """How many images the journal knows a result of."""
        return len(self._made)

    def failures(self, file: str) -> int:
        """Return how often an image has failed, in a row, up to now."""
        return self._failures[_name(file)]

    def knows(self, item: WorkItem) -> bool:
        """Say whether a picture has been taken care of: its result is there, or it is known why there is none."""
        key = _name(item.relative)
        return key in self._failures or (key in self._made and (bool(item.refused) or self._is_there(item)))

    def clean(self, out: Path) -> None:
        """Remove half-written files where the last unfinished batch was being written."""
        folders = {out, out / STATE_FOLDER, *(out / name for name in self._folders)}
        for folder in folders | {out / "panels" / folder.relative_to(out) for folder in folders}:
            if folder.is_dir() and folder.resolve().is_relative_to(out.resolve()):
                remove_partials(folder)

    def verdict(self, item: WorkItem, options: FolderOptions) -> str:
        """Return "work", "done" (say nothing), or THERE when a file stands in its place that no journal tells of."""
        key = _name(item.relative)
        if item.refused:
            return "done" if key in self._made and not item.failed else "work"
        there = self._is_there(item)
        if there and self._made.get(key) and self._is_of(item):
            return "done"
        if options.overwrite == "always" or key in self._begun or not there:
            return "work"
        if options.overwrite == "older":
            try:
                younger = item.state()["mtime_ns"] > os.stat(item.output).st_mtime_ns
            except OSError:
                younger = True
            if younger or self._made.get(key):
                return "work"
        return THERE

    def _is_there(self, item: WorkItem) -> bool:
        """Whether a picture has a file in OUT; of an OUT at an address only the rows are trusted."""
        if mirror_of(item.out):
            return bool(self._made.get(_name(item.relative)))
        return os.path.lexists(item.output)

    def _is_of(self, item: WorkItem) -> bool:
        """Whether the entry is of the very picture: a file whose state on disk is another is compared by content."""
        known = self._made[_name(item.relative)]
        try:
            if known[:8] == _name(*item.state().values()):
                return True
            return known[8:].hex() == content_hash(item.read())[:16]
        except OSError:
            return True  # the input is gone, its result is not
        except ImageError:
            return False

    def check_inputs(self, items: Iterable[WorkItem]) -> None:
        """See that no result in OUT is of another picture that had the name of one of these."""
        if not self._made:
            return
        made = (item for item in items if self._made.get(_name(item.relative)) and self._is_there(item))
        others = [printable(item.relative) for item in made if not item.refused and not self._is_of(item)]
        if others:
            more = f" and {len(others) - 1:,} more" if len(others) > 1 else ""
            raise ConfigError(
                f"'{printable(self.path.parent.parent)}' holds results of other pictures with the same names: "
                f"'{others[0]}'{more}. Give --overwrite older to replace them, or another OUT."
            )


def open_ledger(out: Path, header: dict[str, Any], options: FolderOptions, shard: Shard | None = None) -> Ledger:
    """Read what is known of a run (or a `shard` of it) into OUT, and decide whether it goes on or begins anew."""
    known = journals(out)
    ledger = Ledger(out, own_journal(out, shard), (out / STATE_FOLDER / JOURNAL, *known)) if shard else Ledger(out)
    ledger.read()
    changed = differing(ledger.headers, header)
    if ledger.header is not None and options.overwrite == "always" and (changed or ledger.finished):
        number = 1
        while (aside := ledger.path.with_name(f"journal-{number}.jsonl")).exists():
            number += 1
        os.replace(ledger.path, aside)
        ledger = Ledger(out)
    elif changed:
        raise ConfigError(
            f"'{printable(out)}' holds results of other settings: {changed} changed. Give --overwrite always to begin "
            "anew, or another OUT."
        )
    # What another shard is writing now looks like what a killed one left.
    if not any(is_running(out, other) for other in known.values() if other != shard):
        ledger.clean(out)
    return ledger


def header_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a start noted of its run; its settings are hashed as those of today are."""
    settings = row.get("settings")
    return row["header"] | ({"config": settings_digest(settings)} if isinstance(settings, dict) else {})


def differing(headers: Iterable[dict[str, Any]], header: dict[str, Any]) -> str:
    """Return what differs between the headers of journals and another, in words; empty when nothing."""
    headers = list(headers)
    return ", ".join(_WORDS[n] for n in _WORDS if any(then.get(n) != header.get(n) for then in headers))


def _name(*parts: object) -> bytes:
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest()
