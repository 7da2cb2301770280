"""Several shards on one machine: started, watched, stopped and merged together."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    team: dict[Connection, BaseProcess] = {}
    progress: dict[Connection, Event] = {}
    told: set[str] = set()
    context = multiprocessing.get_context("spawn")

    def say(text: str) -> None:
        report({"event": "note", "text": text})

    try:
        for number, device in enumerate(_devices(asked["device"], count), 1):
            ours, theirs = context.Pipe(duplex=False)
            one = given | {"device": device, "engine": f"shard {number}/{count}"}
            process = context.Process(target=_work, args=(theirs, work, one, count), daemon=True, name=one["engine"])
            process.start()
            theirs.close()
            team[ours] = process
        with Interrupt(say) as interrupt:
            passed_on = False
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
                if interrupt.asked and not passed_on:
                    passed_on = True
                    for process in team.values():
                        if process.pid is not None and process.is_alive():
                            os.kill(process.pid, signal.SIGINT)
            interrupted = interrupt.asked
        summary = merge(out, report)
    except BaseException:
        report({"event": "aborted"})
        raise
    finally:
        for process in team.values():
            process.kill()
            process.join()
    summary.interrupted = interrupted
    summary.seconds = time.monotonic() - started
    report({"event": "end"} | summary.to_dict())
    return summary


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
