"""Several shards on one machine: started, watched, stopped and merged together."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, GRefineError
from grefine.folder.afar import see_named
from grefine.folder.loop import Interrupt
from grefine.folder.merge import merge
from grefine.folder.progress import Event, Reporter, choose_reporter
from grefine.folder.summary import RunSummary

Work = Callable[..., RunSummary]


def refine_with_workers(
    work: Work, count: int, sources: Sequence[str | Path], out: str | Path, asked: Mapping[str, Any]
) -> RunSummary:
    """Run every shard of a folder in a process of its own, one per GPU where there are GPUs, and merge them.

    `work` is `refine_folder` and `asked` its other arguments; each process loads the pipeline itself.
    """
    if count < 1:
        raise ConfigError(f"workers must be at least 1, not {count}.")
    see_named(asked, "Workers")
    report: Reporter = asked["report"] or choose_reporter()
    given = {name: value for name, value in asked.items() if name != "report"} | {"sources": sources, "out": out}
    started = time.monotonic()
    team = _Team(work, report)
    try:
        for number, device in enumerate(_devices(asked["device"], count), 1):
            team.start(given | {"device": device, "engine": f"shard {number}/{count}"}, count)
        with Interrupt(lambda text: report({"event": "note", "text": text})) as interrupt:
            while team.listen():
                if team.refused:
                    raise ConfigError(team.refused)
                if interrupt.asked:
                    team.stop()
            interrupted = interrupt.asked
        if team.refused:
            raise ConfigError(team.refused)
        summary = merge(out, report)
    except BaseException:
        report({"event": "aborted"})
        raise
    finally:
        team.end()
    summary.interrupted = interrupted
    summary.seconds = time.monotonic() - started
    report({"event": "end"} | summary.to_dict())
    return summary


class _Team:
    """The processes of a run and what they tell."""

    def __init__(self, work: Work, report: Reporter) -> None:
        self.work, self.report = work, report
        self.refused = ""
        """Why a worker would not begin."""
        self._processes: dict[Connection, BaseProcess] = {}
        self._progress: dict[Connection, Event] = {}
        self._told: set[str] = set()
        self._asked = False
        self._count = 0

    def start(self, given: dict[str, Any], of: int) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, self.work, given, of), daemon=True, name=given["engine"])
        process.start()
        theirs.close()
        self._processes[ours] = process
        self._count += 1

    def listen(self) -> bool:
        """Pass on what was told; return False when every worker has ended."""
        for end in wait(list(self._processes), timeout=0.5):
            if not isinstance(end, Connection):
                continue
            try:
                self._hear(end, end.recv())
            except (EOFError, OSError):
                process = self._processes.pop(end)
                process.join()
                if process.exitcode and process.exitcode < 0:
                    text = f"{process.name.capitalize()} was ended by signal {-process.exitcode}."
                    self.report({"event": "note", "text": text})
        return bool(self._processes)

    def _hear(self, end: Connection, event: Event) -> None:
        kind = event["event"]
        if kind == "refused":
            self.refused = self.refused or event["text"]
        elif kind == "progress":
            self._progress[end] = event
            self.report(self._joined())
        elif kind == "image" or (kind in ("start", "note") and self._is_new(event.get("text", kind))):
            self.report(event)

    def _is_new(self, text: str) -> bool:
        """Whether no other worker has said the same."""
        new = text not in self._told
        self._told.add(text)
        return new

    def _joined(self) -> Event:
        events = list(self._progress.values())
        totals = [event["total"] for event in events]
        times = [event["left_seconds"] for event in events]
        whole = len(events) == self._count
        counts: Counter[str] = Counter()
        for event in events:
            counts.update(event["counts"])
        return {
            "event": "progress",
            "done": sum(event["done"] for event in events),
            "total": sum(totals) if whole and None not in totals else None,
            "counts": dict(counts),
            "rate": round(sum(event["rate"] for event in events), 3),
            "resumed": sum(event["resumed"] for event in events),
            "left_seconds": max(times) if whole and None not in times else None,
        }

    def stop(self) -> None:
        """Ask every worker once to end after its batch."""
        if not self._asked:
            for process in self._processes.values():
                if process.pid is not None and process.is_alive():
                    os.kill(process.pid, signal.SIGINT)
        self._asked = True

    def end(self) -> None:
        """End the workers that are left at once."""
        for process in self._processes.values():
            process.kill()
            process.join()


def _devices(device: str | None, count: int) -> list[str | None]:
    if device not in (None, "cuda"):
        return [device] * count
    import torch

    gpus = torch.cuda.device_count()
    return [f"cuda:{number % gpus}" if gpus else device for number in range(count)]


def _work(end: Connection, work: Work, given: dict[str, Any], of: int) -> None:
    """Be one worker; Ctrl-C comes from the first process only, which asks once."""
    with suppress(KeyboardInterrupt, OSError):  # told to stop before it began, or nobody listens any more
        os.setpgrp()
        import torch

        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // of))
        try:
            work(**given, report=end.send)
        except GRefineError as error:
            end.send({"event": "refused", "text": str(error)})
