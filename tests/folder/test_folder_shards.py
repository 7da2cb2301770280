"""Several processes share one OUT: the bytes of one process, each picture once, whoever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from small_world import Deadly, config, journal_of, make_folder, random_pipeline, rows, scene, without_seconds
from test_folder_command import SETTINGS, invoke

from grefine.errors import ConfigError
from grefine.folder import merge as merging
from grefine.folder.ledger import Shard, dealt, journals, own_device, read_engine, split_engine
from grefine.folder.merge import merge
from grefine.folder.options import FolderOptions
from grefine.folder.runner import refine_folder
from grefine.folder.worklist import list_work
from grefine.io.atomic import PARTIAL_PREFIX

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
COUNT = 26


def run(source, out, pipe, engine=None, settings=None, report=None, **options):
    extra = {"report": report} if report else {}
    chosen = FolderOptions(**{"batch_size": 3} | options)
    return refine_folder(source, out, pipe, config=settings or config(), options=chosen, engine=engine, **extra)


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


@pytest.fixture(scope="module")
def world(pipe, tmp_path_factory):
    """Pictures, one of them broken, an undisturbed run of one process, and how long that took."""
    root = tmp_path_factory.mktemp("shards")
    source = make_folder(root / "in", COUNT)
    (source / "0011.txt").write_text("beside no picture")
    (source / "broken.png").write_text("no picture")
    start = time.monotonic()
    run(source, root / "calm", pipe)
    return source, root / "calm", time.monotonic() - start


def files_of(out, in_order=True):
    """Every file but the run's own state, with its bytes: page and table too, without what each picture took."""
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and ".grefine" not in path.relative_to(out).parts
    }
    if "results.csv" in found:
        found["results.csv"] = without_seconds(found["results.csv"])
    if not in_order:
        found["results.csv"] = b"".join(sorted(found["results.csv"].splitlines()))
    return found


def check_equal(out, calm, in_order=True):
    assert files_of(out, in_order) == files_of(calm, in_order)
    done = [row["file"] for row in rows(out) if row["state"] != "failed"]
    assert len(done) == len(set(done)) == COUNT
    assert not list(out.rglob(f"{PARTIAL_PREFIX}*"))
    assert not journals(out)


def forked(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent only sees the exit code
            os._exit(70)
    return child


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    "seed", [0, 1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_one_of_two_shards_is_killed_and_started_again(world, pipe, tmp_path, seed):
    source, calm, duration = world
    out, chance = tmp_path / "out", random.Random(seed)

    def doomed():
        if seed % 2:
            Deadly(chance.randint(100, 250))
        run(source, out, pipe, "shard 1/2")

    first = forked(doomed)
    second = forked(lambda: run(source, out, pipe, "shard 2/2"))
    if not seed % 2:
        time.sleep(chance.uniform(0.1, 0.5) * duration)
        os.kill(first, signal.SIGKILL)
    assert ended(first) == -signal.SIGKILL
    # Started again while the other may still be writing beside what the killed one left.
    again = forked(lambda: run(source, out, pipe, "shard 1/2"))
    assert (ended(again), ended(second)) == (0, 0)
    summary = merge(out)
    assert summary.exit_code == 1, "the broken picture"
    assert summary.left == 0
    assert not summary.stopped
    check_equal(out, calm, in_order=False)  # what failed before is tried last, and stands last in the table


def test_any_number_of_shards_gives_the_same_bytes(world, pipe, tmp_path):
    source, calm, _ = world
    for number in (3, 1, 5, 4, 2):
        run(source, tmp_path / "out", pipe, f"shard {number}/5")
    merge(tmp_path / "out")
    check_equal(tmp_path / "out", calm)


def test_a_merge_names_what_is_missing_and_may_be_repeated(world, pipe, tmp_path):
    source, calm, _ = world
    out = tmp_path / "out"
    run(source, out, pipe, "shard 1/2")
    assert not (out / "results.csv").exists()
    first = merge(out)
    assert first.exit_code == 1
    assert first.left == 12
    missing = [item for item, number in dealt(list_work([source], out, FolderOptions()), 2, 3) if number == 2]
    assert len(missing) == 12
    assert f"Not done by any shard: 12 of shard 2/2: '{missing[0].relative}', " in first.stopped
    kept = files_of(out), journal_of(out).read_bytes()
    assert merge(out).stopped == first.stopped
    assert (files_of(out), journal_of(out).read_bytes()) == kept
    again = run(source, out, pipe, "shard 1/2")
    assert again.done == 0, "a merge keeps what was done"
    run(source, out, pipe, "shard 2/2")
    assert merge(out).left == 0
    kept = files_of(out), journal_of(out).read_bytes()
    merge(out)
    assert (files_of(out), journal_of(out).read_bytes()) == kept
    assert set(files_of(out)) == set(files_of(calm))
    done = run(source, out, pipe)
    assert (done.done, done.resumed) == (0, COUNT), "a run without shards goes on from a merged one"


def test_a_merge_that_is_ended_in_its_middle_counts_nothing_twice(world, pipe, tmp_path, monkeypatch):
    source, calm, _ = world
    out = tmp_path / "out"
    for number in (1, 2):
        run(source, out, pipe, f"shard {number}/2")
    with monkeypatch.context() as weather:
        weather.setattr(merging, "conclude", lambda *_: os._exit(9))
        assert ended(forked(lambda: merge(out))) == 9
    assert len(journals(out)) == 2, "it ended between the joined journal and the end of the shards' own"
    merge(out)
    check_equal(out, calm)


def test_a_merge_takes_a_row_with_a_number_that_no_run_writes(world, pipe, tmp_path):
    out = tmp_path / "out"
    run(world[0], out, pipe, "shard 1/2")
    (path,) = journals(out)
    path.write_bytes(path.read_bytes().replace(b'"area": 0', b'"area": NaN, "was": 0', 1))
    assert b"NaN" in path.read_bytes()
    assert merge(out).done
    assert b"NaN" in journal_of(out).read_bytes()


def test_a_merge_while_a_shard_runs_takes_what_is_done(world, pipe, tmp_path):
    source, calm, _ = world
    out, found = tmp_path / "out", []

    def report(event):
        if event["event"] == "progress" and not found:
            found.append(merge(out))

    run(source, out, pipe, "shard 2/2", report=report)
    assert 0 < found[0].done < 12
    assert "of shard 2/2 (it runs)" in found[0].stopped
    assert len(journals(out)) == 1
    run(source, out, pipe, "shard 1/2")
    merge(out)
    check_equal(out, calm)


def test_what_does_not_belong_together_is_refused_before_any_work(world, pipe, tmp_path, monkeypatch):
    source, _, _ = world
    out, seen, running = tmp_path / "out", [], []

    def state():
        return sorted(map(str, out.rglob("*.png"))), [path.read_bytes() for path in journals(out)]

    def refused(match, engine, at=out, **changes):
        known = list(journals(out)), None if running else state()
        with pytest.raises(ConfigError, match=match) as error:
            run(changes.pop("source", source), at, pipe, engine, **changes)
        assert "\n" not in str(error.value)
        assert (list(journals(out)), None if running else state()) == known

    def report(event):
        if event["event"] == "image" and not seen:
            seen.append(1)
            running.append(1)
            refused("Another process works on shard 1/2", "shard 1/2")
            refused("Another run is writing", None)
            running.clear()

    run(source, out, pipe, "shard 1/2", report=report)
    assert seen
    refused("in 2 shards, so shard 1/3 does not fit", "shard 1/3")
    refused("in 2 shards, so a run without shards does not fit", None)
    refused("the refinement settings changed", "shard 2/2", settings=config(total_steps=3))
    refused("the seed changed", "shard 2/2", seed=1)
    refused("cannot: give another OUT", "shard 2/2", overwrite="always")
    refused("one file, which cannot be shared", "shard 2/2", at=tmp_path / "out.png", source=source / "0000.png")
    with monkeypatch.context() as later:
        later.setattr("grefine.folder.task.__version__", "9.9")
        refused("the version of grefine changed", "shard 2/2")
    with pipe_of_other_weights(pipe):
        refused("the pipeline's weights changed", "shard 2/2")
    with pytest.raises(ConfigError, match="holds no run"):
        merge(tmp_path / "nothing")


def pipe_of_other_weights(pipe):
    from contextlib import contextmanager

    import torch

    @contextmanager
    def changed():
        weight = next(pipe.unet.parameters())
        with torch.no_grad():
            weight.view(-1)[0] += 1
        yield
        with torch.no_grad():
            weight.view(-1)[0] -= 1

    return changed()


def test_a_plain_run_has_nothing_to_merge(world):
    with pytest.raises(ConfigError, match="has no shards"):
        merge(world[1])


def test_pictures_that_come_while_a_shard_runs_are_noticed(pipe, tmp_path):
    source, out = make_folder(tmp_path / "in", 8), tmp_path / "out"

    def report(event):
        if event["event"] == "image":
            scene(99).save(source / "late.png")

    run(source, out, pipe, "shard 1/2", report=report)
    assert "late.png" in merge(out).stopped
    for number in (1, 2):
        assert run(source, out, pipe, f"shard {number}/2").exit_code == 0
    assert merge(out).left == 0
    assert sorted(row["file"] for row in rows(out)) == sorted(
        i.relative for i in list_work([source], out, FolderOptions())
    )


def test_which_shard_this_is():
    assert read_engine(None) is None
    assert read_engine("shard 2/8") == Shard(2, 8)
    slurm = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    assert read_engine("shard", slurm) == Shard(1, 4)
    assert read_engine("shard", slurm | {"RANK": "7", "WORLD_SIZE": "8"}) == Shard(8, 8)
    for engine, told, match in (
        ("shard 0/2", {}, "from 1 to N"),
        ("shard 3/2", {}, "from 1 to N"),
        ("shard x", {}, "from 1 to N"),
        ("ray", {}, "must be 'shard I/N'"),
        ("shard", {}, "name no shard"),
        ("shard", {"RANK": "2", "WORLD_SIZE": "2"}, "name no shard"),
        ("shard", {"RANK": "2"}, "name no shard"),
    ):
        with pytest.raises(ConfigError, match=match):
            read_engine(engine, told)
    assert split_engine("shard", ["in", "1/2"]) == ("shard 1/2", ["in"])
    assert split_engine("shard", ["in"]) == ("shard", ["in"])
    assert split_engine(None, ["1/2"]) == (None, ["1/2"])
    assert own_device("cpu", {"LOCAL_RANK": "1"}) == "cpu"
    assert own_device("cuda", {}) == "cuda"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from components import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


def command(source, out, tiny, *more):
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    line = [sys.executable, "-m", "grefine", "refine", *options, str(source), "-o", str(out)]
    return [*line, "--pipeline", str(tiny), "--batch-size", "2", *more]


def test_workers_are_one_run(tiny, tmp_path):
    source = make_folder(tmp_path / "in", 10)
    line = command(source, tmp_path / "out", tiny, "--workers", "2", "--json")
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    events = [json.loads(text) for text in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert (kinds.count("start"), kinds.count("image"), kinds.count("end"), kinds[-1]) == (1, 10, 1, "end")
    assert max(event["done"] for event in events if event["event"] == "progress") == 10
    assert sum(events[-1]["counts"].values()) == 10
    invoke(source, "-o", tmp_path / "calm", "--pipeline", tiny, "--batch-size", 2)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "calm")


@pytest.mark.slow
def test_workers_stop_at_ctrl_c_and_go_on(tiny, tmp_path):
    source = make_folder(tmp_path / "in", 60)
    line = command(source, tmp_path / "out", tiny, "--workers", "2", "--json", "--no-report")
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        for text in process.stdout:
            if json.loads(text)["event"] == "image":
                process.send_signal(signal.SIGINT)
                break
        last = [json.loads(text) for text in process.stdout][-1]
    assert process.returncode == 130
    assert last["event"] == "end"
    assert last["interrupted"]
    assert last["left"] > 0
    assert subprocess.run(line, capture_output=True).returncode == 0
    invoke(source, "-o", tmp_path / "calm", "--pipeline", tiny, "--batch-size", 2, "--no-report")
    # Merged before all was done, the table begins with what was done by then.
    assert files_of(tmp_path / "out", in_order=False) == files_of(tmp_path / "calm", in_order=False)


def test_workers_say_what_a_worker_was_refused_for(world, tiny, tmp_path):
    done = subprocess.run(
        command(world[0], tmp_path / "out", tiny, "--workers", "2", "--judge", "nobody"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "nobody" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(ConfigError, match="by name"):
        refine_folder(world[0], tmp_path / "out", random_pipeline(), workers=2)
