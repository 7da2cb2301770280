"""Join what the shards of a run have done: one journal, one table, one page, and what nobody has done."""

import heapq
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from grefine.config import build
from grefine.errors import ConfigError
from grefine.folder import ledger
from grefine.folder.ledger import Ledger, Shard
from grefine.folder.mirror import mirrored
from grefine.folder.options import FolderOptions
from grefine.folder.progress import Reporter, silent
from grefine.folder.summary import SHOWN, RunSummary
from grefine.folder.views import VIEWS, conclude
from grefine.folder.worklist import list_work
from grefine.indicators.domain_check import DomainCheck, World
from grefine.io.atomic import publish, stage, sync_folder
from grefine.io.journal import Row, is_there, read_units, unit_lines
from grefine.io.picture import printable
from grefine.io.places import is_address
from grefine.io.run_files import JOURNAL, STATE_FOLDER, LastRows, can_be_ours, run_starts

_MERGE = "merge"
"""Marks the rows that every merge writes anew."""


def merge(out: str | Path, report: Reporter = silent) -> RunSummary:
    """Join what an OUT's shards have done by now: journal, table, page. May be repeated, and run while shards run."""
    if is_address(out):
        with mirrored(str(out)) as mirror:
            summary = merge(mirror.local, report)
            mirror.put_merged(mirror.local / STATE_FOLDER / JOURNAL)
            mirror.send_views(*VIEWS)
        summary.out = str(out)
        return summary
    out = Path(out)
    main = out / STATE_FOLDER / JOURNAL
    if not (out / STATE_FOLDER).is_dir() or not (is_there(main) or ledger.journals(out)):
        raise ConfigError(f"'{printable(out)}' holds no run: give the OUT of `grefine refine --engine shard I/N`.")
    with ledger.run_lock(out, shared=True), ledger.one_at_a_time(out):
        shards = ledger.journals(out)
        starts = [list(run_starts(path)) for path in (*shards, main)]
        last = (row for rows in starts for row in [row for row in rows if ledger.is_share(row)][-1:])
        start = next((row for row in last if isinstance(row.get("view"), dict)), None)
        if start is None:
            raise ConfigError(f"The run in '{printable(out)}' has no shards, so there is nothing to merge.")
        headers = (ledger.header_of(rows[-1]) for rows in starts if rows)
        if changed := ledger.differing(headers, ledger.header_of(start)):
            raise ConfigError(f"The journals in '{printable(out)}' do not belong together: {changed} differ.")
        running = {shard for shard in shards.values() if ledger.is_running(out, shard)}
        summary = RunSummary(out, force=bool(start["view"].get("force")))
        rows = _write(out, main, shards, start, running, summary)
        for row in rows:
            summary.add(row)
        if isinstance(world := start["view"].get("world"), dict):
            summary.domain = DomainCheck(build(World, world, where="the journal's world"), None)
        conclude(rows, out, start["view"], summary, report, bool(start["shard"]["options"].get("report")))
        if not running:
            for path in shards:
                path.unlink()
            sync_folder(out / STATE_FOLDER)
    return summary


def _write(
    out: Path, main: Path, shards: dict[Path, Shard], start: Row, running: set[Shard], summary: RunSummary
) -> LastRows:
    """Write the run's journal anew, with its end where all is done; return its rows."""
    known, rows = Ledger(out), LastRows(main)

    def pieces() -> Iterator[bytes]:
        number = -1
        for number, unit in enumerate(_joined(main, shards, start)):
            for row in unit:
                known.take(row)
                rows.take(row)
            yield unit_lines(number, unit)
        if _is_whole(out, known, start["shard"], running, summary) and shards:
            yield unit_lines(number + 1, [{"kind": "end", "from": _MERGE}])

    publish([(stage(main, pieces()), main)])
    if not running:
        known.clean(out)
    return rows


def _joined(main: Path, shards: dict[Path, Shard], start: Row) -> Iterator[list[Row]]:
    """Yield the units of the run's journal anew: what it held of others, then the shards' in the order of the list."""
    merged = {path.stem for path in shards} | {_MERGE}
    yield from (unit for unit in _units(main) if not shards or unit[0].get("from") not in merged)
    if shards:
        yield [start | {"from": _MERGE}]
    numbered = (_numbered(path, shard) for path, shard in shards.items())
    yield from (unit for *_, unit in heapq.merge(*numbered, key=lambda entry: entry[:2]))


def _units(path: Path) -> Iterator[list[Row]]:
    for *_, rows in read_units(path) if is_there(path) else ():
        if unit := [row for row in rows if can_be_ours(row)]:
            yield unit


def _numbered(path: Path, shard: Shard) -> Iterator[tuple[int, int, list[Row]]]:
    """Yield a shard's units with the place of their batch: the shards took turns."""
    place = 0
    for unit in _units(path):
        if unit[0]["kind"] not in ("run", "end"):
            yield place, shard.number, [row | {"from": path.stem} for row in unit]
            place += unit[0]["kind"] == "image"


def _is_whole(out: Path, known: Ledger, share: Row, running: set[Shard], summary: RunSummary) -> bool:
    """Say whether all is done; put into the summary which pictures of the list are not, and whose they were."""
    options = build(FolderOptions, dict(share["options"]), where="the journal's options")
    missing: Counter[Shard] = Counter()
    names: list[str] = []
    for item, number in ledger.dealt(list_work(share["sources"], out, options), share["of"], options.batch_size):
        if not known.knows(item):
            missing[Shard(number, share["of"])] += 1
            names += [f"'{printable(item.relative)}'"] if len(names) < SHOWN else []
    summary.left = missing.total()
    if missing:
        running_now = dict.fromkeys(running, " (it runs)")
        whose = ", ".join(f"{n:,} of shard {shard}{running_now.get(shard, '')}" for shard, n in missing.items())
        more = ", ..." if summary.left > len(names) else ""
        summary.stopped = f"Not done by any shard: {whose}: {', '.join(names)}{more}."
    return not missing
