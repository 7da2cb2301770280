"""One start of a run: the batches on their way through reading, refining and writing."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice

from grefine.cluster import packed
from grefine.errors import GRefineError
from grefine.folder.batch import read_batch, refine_batch
from grefine.folder.ledger import Ledger
from grefine.folder.progress import Reporter, notes_to
from grefine.folder.ready import Ready
from grefine.folder.summary import RunSummary
from grefine.folder.task import Outcome, Reading
from grefine.folder.worklist import WorkItem
from grefine.folder.write import DiskFull, full_disk, own_row, write_outcomes
from grefine.indicators.domain_check import domain_of
from grefine.io.journal import Journal, Row
from grefine.io.picture import printable

_AHEAD = 2
"""Batches that are read before their turn, and written after it."""
_HOPELESS = 3
"""Batches in a row in which every image failed unexpectedly, before the run gives up."""
Todo = tuple[WorkItem, Row | None]


@contextmanager
def interruptible(say: Callable[[str], None], then: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """Let the first Ctrl-C only set the event and call `then`, so that a run ends after its batch."""
    asked, before = threading.Event(), None

    def handle(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        say("Stopping after this batch; press Ctrl-C again to stop at once.")
        then()

    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@dataclass
class Start:
    """One start of a run."""

    work: Callable[[], Iterator[WorkItem]]
    ready: Ready
    ledger: Ledger
    journal: Journal
    report: Reporter
    afar: Callable[[list[bytes]], Iterator[list[Row]]] | None = None
    """Gives the rows of packed batches that a cluster does."""
    waiting: list[Row] = field(default_factory=list)
    """Rows of images that were passed over; they go into the journal with the next batch."""
    total: int | None = None
    hopeless: int = 0
    broken: str = ""
    """Why nothing more can be written, once that is so."""

    def __post_init__(self) -> None:
        self.task, self.out, self.started = self.ready.task, self.ready.out, time.monotonic()
        self.summary = RunSummary(self.out, domain=domain_of(self.ready.pipe), force=self.task.options.force)

    def go(self, start: Row | None, begun: Callable[[], None]) -> RunSummary:
        """Work until the list is done, the disk is full or the user stops it; `start` goes into the journal first."""
        self.report({"event": "start", "out": str(self.out), "resumed": self.ledger.resumed})
        threading.Thread(target=self._count, daemon=True).start()
        with interruptible(notes_to(self.report)) as interrupt:
            try:
                if start is not None:
                    self.journal.append([start])
                begun()
                if self.afar:
                    self._do_afar(self.afar, interrupt)
                else:
                    self._do_here(interrupt)
                if not self.summary.stopped:
                    self._pass(at_once=True)
                    if self.summary.counts or not self.ledger.finished:
                        self.journal.append([{"kind": "end"}])
            except DiskFull as error:
                self.summary.stopped = str(error)
            except OSError as error:
                self.summary.stopped = f"The journal cannot be written: {error.strerror or error}."
        self.summary.seconds = time.monotonic() - self.started
        if self.summary.stopped:
            self._count()
            self.summary.left = max((self.total or 0) - self.summary.resumed - sum(self.summary.counts.values()), 0)
        return self.summary

    def _do_here(self, interrupt: threading.Event) -> None:
        batches, pipe, shelf, gate = self._batches(), self.ready.pipe, self.ready.shelf, self.ready.gate
        reading: deque[Future[list[Reading]]] = deque()
        writing: deque[Future[list[Row]]] = deque()
        readers = ThreadPoolExecutor(_AHEAD, "grefine-read")
        writer = ThreadPoolExecutor(1, "grefine-write")
        try:
            while not self._ends(interrupt):
                for batch in islice(batches, _AHEAD + 1 - len(reading)):
                    reading.append(readers.submit(read_batch, batch, self.task))
                if not reading:
                    break
                outcomes = refine_batch(pipe, reading.popleft().result(), self.task, shelf, gate)
                self._count_hopeless(all(outcome.unexpected for outcome in outcomes), outcomes[-1].reason)
                writing.append(writer.submit(self._write, outcomes, self._passed()))
                while len(writing) > _AHEAD:
                    self._tell(writing.popleft().result())
            while writing:
                self._tell(writing.popleft().result())
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            writer.shutdown(wait=True, cancel_futures=True)

    def _do_afar(self, rows_of: Callable[[list[bytes]], Iterator[list[Row]]], interrupt: threading.Event) -> None:
        """Let a cluster do the batches, and journal what comes back."""
        work, begins = list[bytes](), list[Row]()
        for batch in self._batches():
            work.append(packed(batch))
            begins.append(_begin(batch))
        for first in range(0, len(begins), 1000):
            self.journal.append(begins[first : first + 1000])
        for begin in begins:
            self.ledger.take(begin)
        for rows in rows_of(work):
            everything = [*self._passed(), *rows]
            self.journal.append(everything)
            self._tell(everything)
            self._count_hopeless(all(row.get("unexpected") for row in rows), rows[-1]["reason"])
            if self._ends(interrupt):
                return
        self.ledger.clean(self.out)  # what dead actors left half-written

    def _ends(self, interrupt: threading.Event) -> bool:
        if interrupt.is_set():
            self.summary.interrupted = True
            self.summary.stopped = self.summary.stopped or "Stopped as asked."
        return bool(self.summary.stopped)

    def _batches(self) -> Iterator[list[WorkItem]]:
        """Cut the list into batches. Whole batches are done or not, so what is left is cut at the same places."""
        again: list[Todo] = []
        # What failed before comes last: the rest stays in the company of an undisturbed run.
        for todo in (self._todo(again), iter(again)):
            while some := list(islice(todo, self.task.options.batch_size)):
                found = [row for _, row in some if row is not None]
                if len(found) < len(some):
                    yield [item for item, _ in some]
                else:  # all its results are there: it gives its rows only
                    self._pass(*found)

    def _todo(self, again: list[Todo]) -> Iterator[Todo]:
        """Yield what is to be done, with the row of a result that is there; put what failed before into `again`."""
        for item in self.work():
            verdict = self.ledger.verdict(item, self.task.options)
            if verdict == "done":
                self.summary.resumed += 1
                continue
            row = None if item.refused or verdict == "work" else own_row(item, self.task.hash_of(item.relative))
            if item.refused or (verdict != "work" and row is None):
                state = "failed" if item.failed or not item.refused else "skipped"
                reason = f"{item.refused or verdict}."
                self._pass({"kind": "image", "file": item.relative, "state": state, "reason": reason})
            elif self.ledger.failures(item.relative):
                again.append((item, row))
            else:
                yield item, row

    def _pass(self, *rows: Row, at_once: bool = False) -> None:
        """Journal rows of images that are passed over: with the next batch, or where there are many, or at once."""
        self.waiting += rows
        if self.waiting and (at_once or len(self.waiting) >= 1000):
            told = self._passed()
            self.journal.append(told)
            self._tell(told)

    def _passed(self) -> list[Row]:
        rows, self.waiting = self.waiting, []
        return rows

    def _write(self, outcomes: list[Outcome], passed: list[Row]) -> list[Row]:
        """Announce one batch, write its files, journal it; on the writer's thread, batch after batch."""
        if self.broken:
            raise DiskFull(self.broken)
        try:
            self.journal.append([_begin([outcome.reading.item for outcome in outcomes])])
            rows = [*passed, *write_outcomes(outcomes, self.task)]
            self.journal.append(rows)
        except (DiskFull, OSError) as error:
            told = str(error if isinstance(error, DiskFull) else full_disk(error))
            moved = f"'{printable(self.out)}' was moved or removed during the run."
            self.broken = told if self.out.is_dir() else moved
            raise DiskFull(self.broken) from error
        return rows

    def _count_hopeless(self, failing: bool, reason: str) -> None:
        """Give up when nothing but unexpected failures come, batch after batch."""
        self.hopeless = self.hopeless + 1 if failing else 0
        if self.hopeless >= _HOPELESS:
            self.summary.stopped = f"{_HOPELESS} batches in a row failed entirely ({reason})"

    def _tell(self, rows: list[Row]) -> None:
        summary = self.summary
        for row in rows:
            shown = {k: v for k, v in row.items() if k not in ("kind", "input")}
            if row["state"] == "failed" and (times := self.ledger.failures(row["file"])):
                summary.failed_again += 1
                shown["failed_before"] = times
            summary.add(row)
            self.report({"event": "image"} | shown)
        done, spent = sum(summary.counts.values()) + summary.resumed, time.monotonic() - self.started
        rate = (summary.done + summary.counts["failed"]) / spent if spent else 0.0
        event = {
            "event": "progress",
            "done": done,
            "total": self.total,
            "counts": {state: count for state, count in summary.counts.items() if count},
            "rate": round(rate, 3),
            "resumed": summary.resumed,
            "left_seconds": None if self.total is None or not rate else round(max(self.total - done, 0) / rate, 1),
        }
        self.report(event)

    def _count(self) -> None:
        """Count the list beside the work, for the time that is left."""
        with suppress(GRefineError, OSError):
            self.total = sum(1 for _ in self.work())


def _begin(batch: list[WorkItem]) -> Row:
    """Return the row that announces a batch."""
    folders = sorted({os.path.dirname(item.name) for item in batch})
    return {"kind": "begin", "files": [item.relative for item in batch], "folders": folders}
