"""Measuring: turns, medians, ratios; no test here asserts a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import measure
from benchmarks.measure import Times, compared, interleave, machine, peak
from benchmarks.part import straightness


def test_ways_run_in_turns():
    order = []
    runs = {name: lambda n=name: order.append(n) for name in ("ours", "other")}
    times = interleave(runs, rounds=3, warm=1, least=0.0)
    assert order[:2] == ["ours", "other"], "a warm-up round comes first"
    assert order[-6:] == ["ours", "other"] * 3, "rounds alternate"
    assert all(len(found.cpu) == len(found.wall) == 3 for found in times.values())


def test_short_work_is_repeated_within_a_round(monkeypatch):
    asked = []

    def timed(run, device, repeats):
        asked.append(repeats)
        return 0.25, 0.25

    monkeypatch.setattr(measure, "_timed", timed)
    interleave({"one": lambda: None}, rounds=2, warm=0, least=1.0)
    assert asked == [1, 1, 4, 4], "two looks at how long it takes, then as often as fills the least span"


def test_ratio_is_the_median_of_the_rounds():
    ours, other = Times((1.0, 2.0, 4.0), (9.0,) * 3), Times((3.0, 4.0, 4.0), (9.0,) * 3)
    row = compared("work", ours, other, "theirs", target=2.0, pixels=7)
    assert (row["ratio"], row["low"], row["high"]) == (2.0, 1.0, 3.0)
    assert row["met"] is True
    assert row["ours"] == 2.0
    assert row["facts"] == {"pixels": 7}
    assert compared("work", ours, other, "theirs", target=2.5)["met"] is False
    assert compared("work", ours, other, "theirs")["met"] is None
    assert compared("work", ours, other, "theirs", clock="wall")["ratio"] == 1.0


def test_power_of_growth():
    assert straightness([[1, 5.0], [10, 2.0], [100, 20.0]]) == pytest.approx(1.0)
    assert straightness([[1, 5.0], [10, 3.0], [100, 3.0]]) == pytest.approx(0.0)


def test_machine_is_described_without_names():
    import getpass
    import socket

    about = machine()
    assert {"cpu", "cores", "threads", "torch", "load", "date"} <= set(about)
    words = " ".join(map(str, about.values())).split()
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words


def test_peak_sees_what_a_case_allocates(tmp_path, monkeypatch):
    (tmp_path / "benchmark_case_of_a_test.py").write_text(
        "import numpy as np\ndef block(mib):\n    return lambda: np.ones(mib << 17).sum()\nCASES = {'block': block}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    small, large = (peak("benchmark_case_of_a_test", "block", mib=mib) for mib in (8, 200))
    grown = [cost["peak"] - cost["ready"] for cost in (small, large)]
    assert grown[1] - grown[0] == pytest.approx(192, rel=0.2), "not what the process that measures it holds"
    assert np.isfinite(grown).all()
