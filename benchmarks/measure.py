"""How things are measured here: in turns, in CPU time, as medians, ratios with their spread, and peak memory.

    python -m benchmarks.measure MODULE CASE [JSON]

runs one case of a benchmark once, in a process of its own, and prints what it cost; `peak` asks for that.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from grefine.errors import ConfigError

Work = Callable[[], object]
Row = dict[str, Any]
ROOT = Path(__file__).parent.parent
BUSY = 2.0
"""Load above which wall times tell more about the machine's other work than about ours."""


@dataclass(frozen=True)
class Times:
    """What one way cost in every round."""

    cpu: tuple[float, ...]
    """Seconds of this process on all of its threads."""
    wall: tuple[float, ...]

    def seconds(self, clock: str = "cpu") -> float:
        """Return the median round."""
        return statistics.median(getattr(self, clock))


def interleave(
    runs: Mapping[str, Work], rounds: int, warm: int = 0, device: str = "cpu", least: float = 0.05
) -> dict[str, Times]:
    """Run every way in turn, round after round, so that a busy moment of the machine meets all of them.

    Args:
        runs: the ways by name.
        rounds: how often each is timed.
        warm: untimed rounds before, for what is computed once, beside the look at how long each way takes.
        device: "cuda" waits for the device before every reading of the clock.
        least: a way that takes less is repeated within its round until it took so many seconds; 0 takes no look.
    """
    for _ in range(warm):
        for run in runs.values():
            run()
    repeats = {name: _repeats(run, device, least) for name, run in runs.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(_timed(run, device, repeats[name]))
    return {
        name: Times(tuple(cpu for cpu, _ in times), tuple(wall for _, wall in times)) for name, times in found.items()
    }


def compared(
    what: str, ours: Times, other: Times, against: str, target: float | None = None, clock: str = "cpu", **facts: Any
) -> Row:
    """Return a row of the page: both costs, how many times ours is faster, and between what the rounds' ratios lie."""
    ratios = [b / a for a, b in zip(getattr(ours, clock), getattr(other, clock), strict=True)]
    return {
        "what": what,
        "against": against,
        "ours": ours.seconds(clock),
        "other": other.seconds(clock),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "rounds": len(ratios),
        "target": target,
        "met": None if target is None else statistics.median(ratios) >= target,
        "facts": facts,
    }


def peak(module: str, case: str, **settings: Any) -> dict[str, float]:
    """Run one case in a fresh process and return its CPU and wall seconds, and how many MiB it needed.

    `ready` is the resident size before the case ran, `peak` the largest while it did.
    """
    command = [sys.executable, "-m", "benchmarks.measure", module, case, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise ConfigError(f"The case '{case}' of {module} ended with an error: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine(device: str = "cpu") -> dict[str, Any]:
    """Describe the machine so that another one can be compared with it; names of hosts and people stay out."""
    about: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).date().isoformat(),
    }
    if device.startswith("cuda"):
        about["gpu"] = torch.cuda.get_device_name(device)
    return about


def resident_mib(field: str = "VmRSS") -> float:
    """Return the resident size of this process, or with "VmHWM" the largest that it ever had.

    `ru_maxrss` will not do: a child process inherits it from the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def _timed(run: Work, device: str, repeats: int) -> tuple[float, float]:
    _wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        run()
    _wait(device)
    return (time.process_time() - cpu) / repeats, (time.perf_counter() - wall) / repeats


def _repeats(run: Work, device: str, least: float) -> int:
    if least <= 0.0:
        return 1
    _, wall = _timed(run, device, 1)
    if wall < least:
        wall = min(wall, _timed(run, device, 1)[1])
    return max(1, round(least / max(wall, 1e-6)))


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@cache
def _cpu_model() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Run one case and print its cost as one line of JSON."""
    module, case, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    run = importlib.import_module(module).CASES[case](**json.loads(rest[0] if rest else "{}"))
    ready = resident_mib()
    # Loading may have needed more than the case will: the high-water mark starts anew.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    cpu, wall = _timed(run, "cpu", 1)
    print(json.dumps({"cpu": cpu, "wall": wall, "ready": ready, "peak": resident_mib("VmHWM")}))


if __name__ == "__main__":
    main()
