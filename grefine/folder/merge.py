"""Join what the shards of a run have done: one journal, one table, one page, and what nobody has done."""

from __future__ import annotations

import heapq
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from grefine.config import build
from grefine.errors import ConfigError
from grefine.folder.ledger import Ledger
from grefine.folder.options import FolderOptions
from grefine.folder.progress import Reporter, silent
from grefine.folder.shards import Shard, dealt, is_running, is_share, journals, locked, one_at_a_time
from grefine.folder.summary import SHOWN, RunSummary
from grefine.folder.views import conclude
from grefine.folder.worklist import list_work
from grefine.io.atomic import PARTIAL_PREFIX, sync_folder
from grefine.io.journal import is_there
from grefine.io.picture import printable
from grefine.io.run_files import JOURNAL, STATE_FOLDER, last_rows, run_rows

Row = dict[str, Any]
_MERGE = "merge"
"""Marks the rows that every merge writes anew."""


def merge(out: str | Path, report: Reporter = silent) -> RunSummary:
    """Join the journals of an OUT's shards, write its table and page, and say what no shard has done.

    May be repeated, and run while shards run: what they have done by then is taken. When none runs, their journals go
    into the run's own, and the next start may have another number of shards.

    Returns:
        Counts of all images by state; `stopped` names what is missing.

    Raises:
        ConfigError: no run with shards, another run writes into `out`, or its shards have different settings.
    """
    out = Path(out)
    main = out / STATE_FOLDER / JOURNAL
    if not (out / STATE_FOLDER).is_dir() or not (is_there(main) or journals(out)):
        raise ConfigError(f"'{printable(out)}' holds no run: give the OUT of `grefine refine --engine shard I/N`.")
    message = f"Another run is writing into '{printable(out)}': wait for it to end."
    with locked(out, "lock", message, shared=True), one_at_a_time(out):
        shards = journals(out)
        start = _start([*shards, main])
        if start is None:
            raise ConfigError(f"The run in '{printable(out)}' has no shards, so there is nothing to merge.")
        ledger = _read_alike(out, main, shards, start["header"])
        running = {shard for shard in shards.values() if is_running(out, shard)}
        summary = RunSummary(out, force=bool(start["view"].get("force")))
        _name_missing(out, ledger, start["shard"], running, summary)
        if shards:
            _join(main, shards, start, whole=not summary.left)
        if not running:
            ledger.clean(out)
        for row in last_rows(main):
            summary.add(row)
        if isinstance(world := start["view"].get("world"), dict):
            from grefine.indicators.domain_check import DomainCheck, World

            summary.domain = DomainCheck(build(World, world, where="the journal's world"), None)
        conclude(main, out, start["view"], summary, report, bool(start["shard"]["options"].get("report")))
        if not running:
            for path in shards:
                path.unlink()
            sync_folder(out / STATE_FOLDER)
    return summary


def _start(paths: Iterable[Path]) -> Row | None:
    """Return the last row that the first of these journals has of a shard's start."""
    for path in paths:
        found = [row for row in run_rows(path) if row["kind"] == "run" and is_share(row)]
        if found and isinstance(found[-1].get("view"), dict):
            return found[-1]
    return None


def _read_alike(out: Path, main: Path, shards: Iterable[Path], header: Row) -> Ledger:
    ledger = Ledger(out, main, shards)
    ledger.read()
    if changed := ledger.check(header):
        raise ConfigError(f"The journals in '{printable(out)}' do not belong together: {changed} differ.")
    return ledger


def _join(main: Path, shards: dict[Path, Shard], start: Row, whole: bool) -> None:
    """Write the run's journal anew: what it held of others, then every shard's units in the order of the list."""
    here = {path.stem for path in shards} | {_MERGE}
    others = (unit for unit in _units(main) if unit[0].get("from") not in here)
    own = heapq.merge(*(_numbered(path, shard) for path, shard in shards.items()), key=lambda entry: entry[:2])
    ends = [[{"kind": "end", "from": _MERGE}]] if whole else []
    partial = main.with_name(f"{PARTIAL_PREFIX}{JOURNAL}")
    with partial.open("wb") as file:
        for number, unit in enumerate(chain(others, [[start | {"from": _MERGE}]], (entry[2] for entry in own), ends)):
            for at, row in enumerate(unit):
                file.write(json.dumps(row | {"unit": number, "at": at, "of": len(unit)}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, main)
    sync_folder(main.parent)


def _units(path: Path) -> Iterator[list[Row]]:
    for _, rows in groupby(run_rows(path), key=lambda row: row["unit"]):
        yield list(rows)


def _numbered(path: Path, shard: Shard) -> Iterator[tuple[int, int, list[Row]]]:
    """Yield a shard's units with the place of their batch: the shards took turns."""
    place = 0
    for unit in _units(path):
        if unit[0]["kind"] in ("run", "end"):
            continue
        yield place, shard.number, [row | {"from": path.stem} for row in unit]
        place += unit[0]["kind"] == "image"


def _name_missing(out: Path, ledger: Ledger, share: Row, running: set[Shard], summary: RunSummary) -> None:
    """Put into the summary which pictures of the list no shard has done, and whose they were."""
    options = build(FolderOptions, dict(share["options"]), where="the journal's options")
    missing: Counter[Shard] = Counter()
    names: list[str] = []
    for item, number in dealt(list_work(share["sources"], out, options), share["of"], options.batch_size):
        if not ledger.knows(item):
            missing[Shard(number, share["of"])] += 1
            names += [f"'{printable(item.relative)}'"] if len(names) < SHOWN else []
    summary.left = missing.total()
    if missing:
        running_now = dict.fromkeys(running, " (it runs)")
        whose = ", ".join(f"{n:,} of shard {shard}{running_now.get(shard, '')}" for shard, n in missing.items())
        more = ", ..." if summary.left > len(names) else ""
        summary.stopped = f"Not done by any shard: {whose}: {', '.join(names)}{more}."
