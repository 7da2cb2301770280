"""Work beside this process: shards as processes of this machine, and actors on the machines of a cluster."""

import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, GRefineError
from grefine.folder.batch import LoraShelf, run_batch
from grefine.folder.ledger import differing
from grefine.folder.loop import interruptible
from grefine.folder.merge import merge
from grefine.folder.mirror import Mirror, mirror_of
from grefine.folder.progress import Event, Reporter, choose_reporter, notes_to
from grefine.folder.ready import Ready
from grefine.folder.summary import RunSummary
from grefine.folder.task import Task, weights_fingerprint
from grefine.folder.worklist import WorkItem
from grefine.indicators.providers import open_sources
from grefine.io.journal import Row
from grefine.opening import Opening, open_pipeline
from grefine.scorers.prefilter import read_gate

Work = Callable[..., RunSummary]


def refine_with_workers(
    work: Work, count: int, sources: Sequence[str | Path], out: str | Path, asked: Mapping[str, Any]
) -> RunSummary:
    """Run every shard in a process of its own, and merge; `work` is `refine_folder`, `asked` its other arguments."""
    if count < 1:
        raise ConfigError(f"workers must be at least 1, not {count}.")
    _see_named(asked, "Workers")
    report: Reporter = asked["report"] or choose_reporter()
    given = {name: value for name, value in asked.items() if name != "report"} | {"sources": sources, "out": out}
    started, say = time.monotonic(), notes_to(report)
    team: dict[Connection, BaseProcess] = {}
    progress: dict[Connection, Event] = {}
    told: set[str] = set()
    context = multiprocessing.get_context("spawn")

    def stop_all() -> None:
        for process in team.values():
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGINT)

    try:
        for number, device in enumerate(_devices(asked["device"], count), 1):
            ours, theirs = context.Pipe(duplex=False)
            one = given | {"device": device, "engine": f"shard {number}/{count}"}
            process = context.Process(target=_work, args=(theirs, work, one, count), daemon=True, name=one["engine"])
            process.start()
            team[ours] = process
            theirs.close()
        with interruptible(say, stop_all) as asked_to_stop:
            while team:
                for end, event in _heard(team, say):
                    kind, text = event["event"], event.get("text", event["event"])
                    if kind == "refused":
                        raise ConfigError(text)
                    if kind == "progress":
                        progress[end] = event
                        report(_joined(list(progress.values()), count))
                    elif kind == "image" or (kind in ("start", "note") and text not in told):
                        told.add(text)  # what every worker says is passed on once
                        report(event)
        summary = merge(out, report)
    except BaseException:
        report({"event": "aborted"})
        raise
    finally:
        for process in team.values():
            process.kill()
            process.join()
    summary.interrupted = asked_to_stop.is_set()
    summary.seconds = time.monotonic() - started
    report({"event": "end"} | summary.to_dict())
    return summary


def _see_named(asked: Mapping[str, Any], who: str) -> None:
    """See that other processes can load what this one was given."""
    if not isinstance(asked["pipeline"], (str, Path)) or not isinstance(asked["gate"], (str, type(None))):
        raise ConfigError(f"{who} load the pipeline and the gate themselves: give both by name.")


def _heard(team: dict[Connection, BaseProcess], say: Callable[[str], None]) -> Iterator[tuple[Connection, Event]]:
    """Yield what the workers tell within half a second; those that ended leave the team."""
    for end in wait(list(team), timeout=0.5):
        if isinstance(end, Connection):
            try:
                event = end.recv()
            except (EOFError, OSError):
                process = team.pop(end)
                process.join()
                if process.exitcode and process.exitcode < 0:
                    say(f"{process.name.capitalize()} was ended by signal {-process.exitcode}.")
            else:
                yield end, event


def _joined(events: list[Event], count: int) -> Event:
    """Return the progress of all workers as one."""
    totals, times = ([event[name] for event in events] for name in ("total", "left_seconds"))
    whole = len(events) == count
    return {
        "event": "progress",
        "done": sum(event["done"] for event in events),
        "total": sum(totals) if whole and None not in totals else None,
        "counts": dict(sum((Counter(event["counts"]) for event in events), Counter())),
        "rate": round(sum(event["rate"] for event in events), 3),
        "resumed": sum(event["resumed"] for event in events),
        "left_seconds": max(times) if whole and None not in times else None,
    }


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


def given_afar(asked: Mapping[str, Any], ready: Ready, header: Row) -> dict[str, Any]:
    """Return what a `RefineWorker` is made of, so that it works as this process would; `asked` is what the run was."""
    _see_named(asked, "Actors")
    mirror = mirror_of(ready.out)
    named = ("gate", "gate_weights", "quality_map", "alignment_map")
    return {
        "asked": {name: asked[name] for name in named} | {"pipeline": str(asked["pipeline"])},
        "header": header,
        "task": replace(ready.task, quality_map=None, alignment_map=None),
        "opening": replace(ready.opening, device=asked["cluster"].device),
        "calibration": ready.pipe.config.get("calibration"),
        "address": mirror.address if mirror else "",
    }


class RefineWorker:
    """Lives in an actor: opens the pipeline once, then does batches."""

    def __init__(
        self, asked: Mapping[str, Any], header: Row, task: Task, opening: Opening, calibration: Any, address: str
    ) -> None:
        place = (opening.device or "cpu", opening.allow_noncommercial)
        drawn = open_sources(asked["quality_map"], asked["alignment_map"], *place)
        self.pipe = open_pipeline(asked["pipeline"], opening)
        self.task = replace(task, quality_map=drawn[0], alignment_map=drawn[1])
        mine = replace(self.task, weights=weights_fingerprint(self.pipe)).header("") | {"prompts": header["prompts"]}
        if changed := differing([header], mine):
            raise ConfigError(f"The worker on '{socket.gethostname()}' is not as this machine: {changed} differ.")
        self.pipe.register_to_config(calibration=calibration)
        self.pipe.set_progress_bar_config(disable=True)
        self.gate = read_gate(asked["gate"], asked["gate_weights"], self.pipe, *place) if asked["gate"] else None
        self.shelf = LoraShelf(task.lora_dir) if task.lora_dir else None
        self.local = tempfile.TemporaryDirectory(prefix="grefine-") if address else None
        self.mirror = Mirror(address, Path(self.local.name)) if self.local else None

    def __call__(self, items: list[WorkItem]) -> list[Row]:
        if self.mirror:
            items = [replace(item, out=self.mirror.local) for item in items]
        rows = run_batch(self.pipe, items, self.task, self.shelf, self.gate)
        if self.mirror:
            self.mirror.send(rows)
        return rows
