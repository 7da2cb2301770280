"""Nothing is lost and nothing is done twice: killed at any moment, a full disk, a damaged journal, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time

import pytest
from small_world import Deadly, in_child, journal_of, make_folder, random_pipeline, rows, run, snapshot, tree

from grefine.folder.worklist import list_work
from grefine.io.atomic import PARTIAL_PREFIX

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


def calm_run(root, pipe, count):
    """A folder of so many pictures, an undisturbed run over it, and how long that took."""
    source = make_folder(root / "in", count)
    start = time.monotonic()
    run(source, root / "calm", pipe, batch_size=4)
    return pipe, source, root / "calm", time.monotonic() - start


@pytest.fixture(scope="module")
def world(pipe, tmp_path_factory):
    return calm_run(tmp_path_factory.mktemp("sixty"), pipe, 60)


@pytest.fixture(scope="module")
def small(pipe, tmp_path_factory):
    return calm_run(tmp_path_factory.mktemp("sixteen"), pipe, 16)


def check_equal(out, calm):
    """Same files, same bytes, each once, nothing half-written."""
    found, whole = tree(out), tree(calm)
    assert found.keys() == whole.keys()
    assert [name for name in whole if found[name] != whole[name]] == []
    files = [row["file"] for row in rows(out)]
    assert sorted(files) == sorted(row["file"] for row in rows(calm))
    assert len(files) == len(set(files))
    assert not list(out.rglob(f"{PARTIAL_PREFIX}*"))


def resume(source, out, pipe):
    """Start again as a user would, and return how many images were left to do."""
    summary = run(source, out, pipe)
    assert summary.exit_code == 0
    return sum(summary.counts.values())


def killed_by_time(world, out, seed):
    """Let a run be killed after a random time."""
    pipe, source, _, duration = world
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            run(source, out, pipe)
        os._exit(0)
    time.sleep(random.Random(seed).uniform(0.02, 0.95) * duration)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def killed_at_the_disk(world, out, seed):
    """Let a run kill itself in the middle of one of its writes."""
    pipe, source, _, _ = world

    def work():
        Deadly(random.Random(seed).randint(1, 400))
        run(source, out, pipe)

    return in_child(work)


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments(world, tmp_path, seed):
    out = tmp_path / "out"
    if seed % 2:
        killed_by_time(world, out, seed)
    else:
        assert killed_at_the_disk(world, out, seed) == -signal.SIGKILL
    resume(world[1], out, world[0])
    check_equal(out, world[2])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 20))
def test_killed_at_many_random_moments(world, tmp_path, seed):
    test_killed_at_random_moments(world, tmp_path, seed)


def test_killed_within_a_batch(small, tmp_path):
    """At every touch of the disk that the second batch makes, and once more on the way back."""
    pipe, source, calm, _ = small
    out = tmp_path / "out"
    for _ in range(2):
        before = len(rows(out))
        at = random.Random(before).randint(15, 45)

        def work(at=at):
            Deadly(at)
            run(source, out, pipe)

        assert in_child(work) == -signal.SIGKILL
        assert len(rows(out)) >= before
    done = len(rows(out))
    assert resume(source, out, pipe) == 16 - done
    check_equal(out, calm)


@pytest.mark.parametrize("damage", ["cut", "garbage", "torn", "middle"])
def test_a_damaged_journal(small, tmp_path, damage):
    pipe, source, calm, _ = small
    out = tmp_path / "out"
    with contextlib.suppress(KeyboardInterrupt):
        run(source, out, pipe, report=stop_after(5))
    path = journal_of(out)
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "garbage":
        path.write_bytes(data + os.urandom(3000))
    elif damage == "torn":
        path.write_bytes(data[:-25])
    else:
        lines = data.splitlines(keepends=True)
        lines[2] = lines[2][:40] + b"\x00" * 20 + b"\n"
        path.write_bytes(b"".join(lines))
    resume(source, out, pipe)
    check_equal(out, calm)


def stop_after(count):
    """A reporter that interrupts, at once, after so many images."""
    seen = []

    def report(event):
        seen.extend([event] if event["event"] == "image" else [])
        if len(seen) >= count:
            raise KeyboardInterrupt

    return report


def test_a_full_disk_stops_cleanly_and_goes_on(small, tmp_path, monkeypatch):
    """The system refuses bytes beyond a quota, as a full disk does."""
    pipe, source, calm, _ = small
    out = tmp_path / "out"
    real, room = os.write, [25_000]

    def write(descriptor, data):
        if room[0] < len(data):
            raise OSError(28, "No space left on device")
        room[0] -= len(data)
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    summary = run(source, out, pipe)
    monkeypatch.setattr(os, "write", real)
    assert summary.stopped.startswith("The disk is full") or "cannot be written" in summary.stopped
    assert 0 < summary.left <= 16
    assert summary.left == 16 - len(rows(out))
    assert summary.exit_code == 1
    assert f"{summary.left:,} images are left" in "\n".join(summary.lines())
    assert not list(out.rglob(f"{PARTIAL_PREFIX}*"))
    resume(source, out, pipe)
    check_equal(out, calm)


@pytest.mark.slow
def test_a_really_full_disk(small, tmp_path):
    """A tmpfs of 120 KiB; needs the right to mount."""
    pipe, source, calm, _ = small
    out = tmp_path / "disk"
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(out)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let the tests mount a small disk")
    try:
        summary = run(source, out, pipe)
        assert summary.stopped
        assert summary.left == 16 - len(rows(out))
        subprocess.run(["mount", "-o", "remount,size=200m", str(out)], check=True)
        resume(source, out, pipe)
        check_equal(out, calm)
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)


def test_ctrl_c_ends_after_the_batch(small, tmp_path):
    pipe, source, calm, _ = small
    out, notes = tmp_path / "out", []
    before = signal.getsignal(signal.SIGINT)

    def report(event):
        if event["event"] == "image" and not notes:
            os.kill(os.getpid(), signal.SIGINT)
        notes.extend([event["text"]] if event["event"] == "note" else [])

    summary = run(source, out, pipe, report=report)
    assert summary.interrupted
    assert summary.exit_code == 130
    assert 0 < summary.left < 16
    assert "press Ctrl-C again" in notes[0]
    assert signal.getsignal(signal.SIGINT) is before
    assert resume(source, out, pipe) == summary.left
    check_equal(out, calm)


def test_a_second_ctrl_c_ends_at_once(small, tmp_path):
    pipe, source, _, _ = small

    def report(event):
        if event["event"] == "image":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", pipe, report=report)
    assert 0 < len(rows(tmp_path / "out")) < 16


def test_what_ends_a_run_comes_through_whatever_a_reporter_returns(small, tmp_path):
    pipe, source, _, _ = small
    told = []

    def report(event):
        told.append(event["event"])
        if event["event"] == "image":
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out", pipe, report=report)
    assert told[-1] == "aborted"


def test_files_that_vanish_or_come_while_it_runs(pipe, tmp_path, monkeypatch):
    from grefine.folder import worklist

    source = make_folder(tmp_path / "in", 6)
    real = worklist.read_place

    def read_place(path):
        (source / "0004.png").unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(worklist, "read_place", read_place)
    summary = run(source, tmp_path / "out", pipe)
    assert summary.counts["failed"] == 1
    assert "does not exist" in next(r for r in rows(tmp_path / "out") if r["state"] == "failed")["reason"]
    monkeypatch.setattr(worklist, "read_place", real)
    make_folder(source, 8)
    more = run(source, tmp_path / "out", pipe)
    assert sum(more.counts.values()) == 3
    assert (more.counts["failed"], more.failed_again) == (0, 0)


def test_results_without_a_journal_are_known_by_their_record(small, tmp_path):
    pipe, source, calm, _ = small
    out = tmp_path / "out"
    run(source, out, pipe)
    journal_of(out).unlink()
    calls = []
    monkey = type(pipe).__call__
    try:
        type(pipe).__call__ = lambda self, **options: calls.append(1) or monkey(self, **options)
        resume(source, out, pipe)
    finally:
        type(pipe).__call__ = monkey
    assert not calls
    check_equal(out, calm)


def test_inputs_are_never_written(small, tmp_path):
    pipe, source, _, _ = small
    before = snapshot(source)
    killed_at_the_disk(small, tmp_path / "out", 5)
    run(source, tmp_path / "out", pipe)
    assert snapshot(source) == before


def test_a_run_in_another_thread_leaves_signals_alone(small, tmp_path):
    pipe = small[0]
    source = make_folder(tmp_path / "in", 2)
    found = []
    thread = threading.Thread(target=lambda: found.append(run(source, tmp_path / "out", pipe)))
    thread.start()
    thread.join(120)
    assert found[0].done == 2


def test_the_order_does_not_depend_on_the_disk(small, tmp_path):
    _, source, _, _ = small
    from grefine.folder.options import FolderOptions

    found = [item.relative for item in list_work([source], tmp_path, FolderOptions())]
    top = [name for name in found if "/" not in name]
    assert found == [*sorted(top), *sorted(name for name in found if "/" in name)]
