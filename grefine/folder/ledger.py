"""What a run has done, and what its parts are: the journal of every start, the shards that several processes do."""

import hashlib
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, ImageError
from grefine.folder.mirror import mirror_of
from grefine.folder.options import FolderOptions
from grefine.folder.worklist import WorkItem
from grefine.io.atomic import remove_partials
from grefine.io.content import content_hash
from grefine.io.journal import lock_file
from grefine.io.picture import printable
from grefine.io.places import is_address
from grefine.io.run_files import JOURNAL, STATE_FOLDER, run_rows
from grefine.refine.settings import settings_digest

FOLDER = "shards"
"""Below `.grefine`: each shard's journal and lock, until they are merged."""
_NAME = re.compile(r"([0-9]+)-of-([0-9]+)-[0-9a-f]+\.jsonl")
_COUNTED = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""Where torchrun and SLURM say which of how many processes this is; torchrun may run below SLURM, so it is first."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The share `number` (from 1) `of` so many."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def lock(self) -> str:
        """The name of its lock, below `.grefine`."""
        return f"{FOLDER}/{self.number}-of-{self.of}.lock"

    def own(self, items: Iterable[WorkItem], batch_size: int) -> Iterator[WorkItem]:
        """Yield this shard's pictures."""
        return (item for item, number in dealt(items, self.of, batch_size) if number == self.number)


def dealt(items: Iterable[WorkItem], of: int, batch_size: int) -> Iterator[tuple[WorkItem, int]]:
    """Yield every picture with the number of its shard; dealt are whole batches, as one process would cut them."""
    taken = 0
    for item in items:
        yield item, taken // batch_size % of + 1
        taken += not item.refused


def read_engine(engine: str | None, environment: Mapping[str, str] = os.environ) -> Shard | None:
    """Return the shard that `shard I/N` or, without I/N, the environment names; None for a whole run."""
    if engine is None:
        return None
    kind, _, which = engine.partition(" ")
    if kind != "shard":
        raise ConfigError(f"The engine must be 'shard I/N', 'shard' or 'ray', not '{printable(engine)}'.")
    first, (number, _, of) = 1, which.partition("/")
    told = f"'{printable(which)}' is no shard: give I/N with I from 1 to N, e.g. 'shard 2/8'."
    if not which:
        pair = next((pair for pair in _COUNTED if any(environment.get(name) for name in pair)), _COUNTED[0])
        first, (number, of) = 0, (environment.get(name, "") for name in pair)
        told = f"{pair[0]}={number!r} and {pair[1]}={of!r} name no shard: give --engine shard I/N."
    if not (number.isdecimal() and of.isdecimal() and first <= int(number) < int(of) + first):
        raise ConfigError(told)
    return Shard(int(number) + 1 - first, int(of))


def split_engine(engine: str | None, words: list[str]) -> tuple[str | None, list[str]]:
    """Return what `--engine shard I/N` means on a command line, where I/N comes as one of the other words."""
    if engine != "shard":
        return engine, words
    which = [word for word in words if re.fullmatch("[0-9]+/[0-9]+", word) and not os.path.lexists(word)]
    return f"shard {which[0]}" if which else engine, [word for word in words if word not in which[:1]]


def own_device(device: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the GPU of a process that its starter gave a number on this machine but all of the GPUs."""
    local = environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", ""))
    if device != "cuda" or not local.isdecimal():
        return device
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{int(local) % count}" if count > 1 else device


def journals(out: Path) -> dict[Path, Shard]:
    """Return the journals of shards in OUT that are not merged yet, by number."""
    found = {}
    for path in (out / STATE_FOLDER / FOLDER).glob("*.jsonl"):
        if name := _NAME.fullmatch(path.name):
            found[path] = Shard(int(name[1]), int(name[2]))
    return dict(sorted(found.items(), key=lambda pair: (pair[1].of, pair[1].number, pair[0].name)))


def refuse_unmerged(out: Path, shard: Shard | None) -> None:
    """Keep a run out of an OUT whose shards are counted otherwise."""
    for other in journals(out).values():
        if shard is None or other.of != shard.of:
            what = f"shard {shard}" if shard else "a run without shards"
            raise ConfigError(
                f"'{printable(out)}' is being refined in {other.of} shards, so {what} does not fit: go on with "
                f"--engine shard I/{other.of}, or end them and run `grefine merge` on it first."
            )


def is_share(row: Mapping[str, Any]) -> bool:
    """Say whether a run's row tells of a shard, in the form that a shard writes; anybody may have edited it."""
    share, kinds = row.get("shard"), {"of": int, "sources": list, "options": dict}
    return (
        isinstance(share, dict)
        and all(isinstance(share.get(name), kind) for name, kind in kinds.items())
        and share["of"] > 0
        and all(isinstance(source, str) for source in share["sources"])
    )


def share_of(shard: Shard, sources: Sequence[str | Path], options: FolderOptions) -> dict[str, Any]:
    """Return what a shard's journal notes of the list that it deals, so that a merge finds what nobody has done."""
    names = []
    for name in map(str, sources):  # as another process finds them
        mark, path = ("@", name[1:]) if name.startswith("@") else ("", name)
        names.append(name if is_address(name) else f"{mark}{os.path.abspath(path)}")
    return {"of": shard.of, "sources": names, "options": asdict(options)}


def is_running(out: Path, shard: Shard) -> bool:
    """Say whether a process works on a shard now; asked by one process at a time, or two would see each other."""
    if mirror := mirror_of(out):
        return mirror.is_claimed(shard.lock)
    try:
        with locked(out, shard.lock, "it runs"):
            return False
    except ConfigError:
        return True


def run_lock(out: Path, *, shared: bool) -> AbstractContextManager[None]:
    """Keep a second run out of the same folder; shards of one run, and merges, share it."""
    message = f"Another run is writing into '{printable(out)}': wait for it to end."
    return locked(out, "lock", message, shared=shared)


def one_at_a_time(out: Path) -> AbstractContextManager[None]:
    """Let shards begin, and merges work, one after the other."""
    return locked(out, f"{FOLDER}/lock", "")


@contextmanager
def locked(out: Path, name: str, message: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock of an OUT, alone or `shared`; where another process has it, wait, or fail with `message`."""
    if mirror := mirror_of(out):
        # A store has no locks to share or to wait for; rows are objects of their own, and parts do not meet.
        with mirror.claim(name, message) if message and not shared else nullcontext():
            yield
        return
    path = out / STATE_FOLDER / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in {out / STATE_FOLDER, path.parent}:
            if folder.is_symlink():
                raise ConfigError(f"'{printable(folder)}' is a symbolic link: remove it, or choose another OUT.")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise ConfigError(f"Cannot write into '{printable(out)}': {error.strerror}.") from error
    try:
        lock_file(handle, message, shared=shared)
        yield
    finally:
        os.close(handle)


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
    known, ledger = journals(out), Ledger(out)
    if shard:  # the name of its journal is new after every merge, so that none counts twice
        new = out / STATE_FOLDER / FOLDER / f"{shard.number}-of-{shard.of}-{secrets.token_hex(4)}.jsonl"
        own = next((path for path, other in known.items() if other == shard), new)
        ledger = Ledger(out, own, (out / STATE_FOLDER / JOURNAL, *known))
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
