"""One part of a run that several processes share: which pictures are its own, and that the parts belong together."""

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError
from grefine.folder.mirror import mirror_of
from grefine.folder.options import FolderOptions
from grefine.folder.worklist import WorkItem, list_work
from grefine.io.journal import lock_file
from grefine.io.picture import printable
from grefine.io.places import is_address
from grefine.io.run_files import STATE_FOLDER, run_starts

FOLDER = "shards"
"""Below `.grefine`: each shard's journal and lock, until they are merged."""
_NAME = re.compile(r"([0-9]+)-of-([0-9]+)-[0-9a-f]+\.jsonl")
_COUNTED = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""Where torchrun and SLURM say which of how many processes this is; torchrun may run below SLURM, so it is first."""
MOST_SOURCES = 1000


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
    """Yield every picture with the number of its shard.

    Dealt are the batches that one process would cut, so that each is computed in the same company whatever the count.
    """
    taken = 0
    for item in items:
        yield item, taken // batch_size % of + 1
        taken += not item.refused


def read_engine(engine: str | None, environment: Mapping[str, str] = os.environ) -> Shard | None:
    """Return the shard that `shard I/N` or (as `shard auto`) the environment names; None for a whole run."""
    if engine is None:
        return None
    kind, _, which = engine.replace(":", " ").strip().partition(" ")
    if kind != "shard":
        raise ConfigError(f"The engine must be 'shard I/N', 'shard auto' or 'ray', not '{printable(engine)}'.")
    first, (number, _, of) = 1, which.strip().partition("/")
    told = f"'{printable(which.strip())}' is no shard: give I/N with I from 1 to N, e.g. 'shard 2/8'."
    if which.strip() in ("", "auto"):
        names = next((pair for pair in _COUNTED if any(environment.get(name) for name in pair)), None)
        if names is None:
            known = " nor ".join(" and ".join(pair) for pair in _COUNTED)
            raise ConfigError(
                f"Neither {known} are set, so nothing says which shard this is: give --engine shard I/N."
            )
        first, (number, of) = 0, (environment.get(name, "") for name in names)
        told = f"{names[0]}={number!r} and {names[1]}={of!r} name no shard: give --engine shard I/N."
    if not (number.isdecimal() and of.isdecimal() and first <= int(number) < int(of) + first):
        raise ConfigError(told)
    return Shard(int(number) + 1 - first, int(of))


def split_engine(engine: str | None, words: list[str]) -> tuple[str | None, list[str]]:
    """Return what `--engine shard I/N` means on a command line, where I/N comes as one of the other words."""
    if engine != "shard":
        return engine, words
    which = [w for w in words if (w == "auto" or re.fullmatch("[0-9]+/[0-9]+", w)) and not os.path.lexists(w)]
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


def own_journal(out: Path, shard: Shard) -> Path:
    """Return where a shard's journal is or will be. Its name is new after every merge, so that none counts twice."""
    for path, other in journals(out).items():
        if other == shard:
            return path
    return out / STATE_FOLDER / FOLDER / f"{shard.number}-of-{shard.of}-{secrets.token_hex(4)}.jsonl"


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
    share, kinds = row.get("shard"), {"of": int, "list": str, "sources": list, "options": dict}
    return (
        isinstance(share, dict)
        and all(isinstance(share.get(name), kind) for name, kind in kinds.items())
        and share["of"] > 0
        and all(isinstance(source, str) for source in share["sources"])
    )


def list_digest(items: Iterable[WorkItem]) -> str:
    """Return a hash of the names in a list of work."""
    state = hashlib.sha256()
    for item in items:
        state.update(f"{item.relative}\0{bool(item.refused)}\n".encode("utf-8", "surrogatepass"))
    return state.hexdigest()[:16]


def share_of(out: Path, shard: Shard, sources: Sequence[str | Path], options: FolderOptions) -> dict[str, Any]:
    """Return what a shard's journal notes of the list that it deals, so that a merge finds what nobody has done."""
    listed = list_digest(list_work(sources, out, options))
    for path, other in journals(out).items():
        theirs = [row["shard"]["list"] for row in run_starts(path) if is_share(row)] if other != shard else []
        if theirs and theirs[-1] != listed and is_running(out, other):
            raise ConfigError(
                f"Shard {other} runs over another list of pictures: give all shards the same sources and patterns, "
                "and start them anew when pictures came or went."
            )
    names = []
    for name in map(str, sources):  # as another process finds them
        mark, path = ("@", name[1:]) if name.startswith("@") else ("", name)
        names.append(name if is_address(name) else f"{mark}{os.path.abspath(path)}")
    return {"of": shard.of, "list": listed, "sources": names, "options": asdict(options)}


def is_running(out: Path, shard: Shard) -> bool:
    """Say whether a process works on a shard now; asked by one process at a time, or two would see each other."""
    if mirror := mirror_of(out):
        return mirror.is_claimed(shard.lock)
    try:
        with locked(out, shard.lock, "it runs"):
            return False
    except ConfigError:
        return True


def hold(out: Path, shard: Shard) -> AbstractContextManager[None]:
    """Keep a second process out of one shard."""
    message = f"Another process works on shard {shard} of '{printable(out)}': give each its own number."
    return locked(out, shard.lock, message)


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
