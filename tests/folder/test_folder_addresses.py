"""Sources, prompts and OUT at addresses: the bytes of a folder, whatever the store does, no secret written down."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import threading
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from small_world import PROMPTS, Deadly, config, random_pipeline, scene, without_seconds

from grefine.errors import ConfigError
from grefine.folder.merge import merge
from grefine.folder.mirror import mirrored
from grefine.folder.options import FolderOptions
from grefine.folder.planning import plan_folder
from grefine.folder.runner import refine_folder
from grefine.io import places

COUNT = 13
SECRET = "hidden-key-of-the-test"


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(places, "WAIT", 0.001)


@pytest.fixture(scope="module")
def world(pipe, tmp_path_factory):
    """A folder, its table of prompts, and what a run makes of it."""
    root = tmp_path_factory.mktemp("addresses")
    for index in range(COUNT):
        path = root / "in" / ("sub" if index % 3 else "") / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(index).save(path)
    (root / "in/broken.png").write_bytes(b"no picture")
    lines = [f"{index:04}.png,{PROMPTS[index % 4]}" for index in range(COUNT)]
    (root / "prompts.csv").write_text("\n".join(["file,prompt", *lines]))
    run(root / "in", root / "calm", pipe, root / "prompts.csv")
    return root


def run(source, out, pipe, prompts=None, engine=None, report=None, plans=None, masks=None, **options):
    chosen = FolderOptions(**{"batch_size": 3} | options)
    extra = {"plans": plans, "masks": masks} | ({"report": report} if report else {})
    return refine_folder(source, out, pipe, config=config(), options=chosen, prompts=prompts, engine=engine, **extra)


class Flaky:
    """Makes a file system fail now and then, before and after it did what was asked."""

    def __init__(self, system, monkeypatch, every=5, names=("pipe_file", "cat_file", "ls", "cat", "info")):
        self.calls, self.every = 0, every
        for name in names:
            monkeypatch.setattr(type(system), name, self.wrap(getattr(type(system), name)))

    def wrap(self, real):
        def call(system, *arguments, **options):
            self.calls += 1
            errors = (TimeoutError("timed out"), OSError(5, "503 Slow Down"), ConnectionResetError("cut"))
            if self.calls % self.every == 0:
                raise errors[self.calls % 3]
            found = real(system, *arguments, **options)
            if self.calls % self.every == 2:
                raise errors[self.calls % 3]
            return found

        return call


@pytest.fixture
def memory(world):
    """The folder in fsspec's memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    upload(system, world, "/bucket")
    yield system
    system.store.clear()


def upload(system, world, root):
    for path in (world / "in").rglob("*.png"):
        system.pipe_file(f"{root}/in/{path.relative_to(world / 'in')}", path.read_bytes())
    system.pipe_file(f"{root}/prompts.csv", (world / "prompts.csv").read_bytes())


def results(system, root):
    """Pictures, panels and table in a store."""
    return shown({path.split("/out/", 1)[1]: system.cat_file(path) for path in system.find(f"{root}/out")})


def calm_results(world):
    files = (path for path in (world / "calm").rglob("*") if path.is_file())
    return shown({path.relative_to(world / "calm").as_posix(): path.read_bytes() for path in files})


def shown(files):
    """What must be the same: all but the page, and the table's sentence that names a broken picture by its address."""
    table = [
        line
        for line in without_seconds(files["results.csv"]).splitlines()
        if not line.startswith(b"broken.png,failed,")
    ]
    kept = {name: data for name, data in files.items() if ".grefine" not in name and "report" not in name}
    return kept | {"results.csv": b"\n".join(table)}


def rows_of(system, root):
    found = system.find(f"{root}/out/.grefine/rows")
    return [json.loads(line) for path in found for line in system.cat_file(path).splitlines()]


def in_any_order(files):
    return files | {"results.csv": b"".join(sorted(files["results.csv"].splitlines()))}


def test_everything_in_memory_gives_what_a_folder_gives(world, pipe, memory):
    events = []
    summary = run(
        "memory://bucket/in", "memory://bucket/out", pipe, "memory://bucket/prompts.csv", report=events.append
    )
    assert (summary.done, summary.counts["failed"], summary.vanished) == (COUNT, 1, 0)
    assert results(memory, "/bucket") == calm_results(world)
    assert memory.exists("/bucket/out/report.html")
    assert {event["out"] for event in events if "out" in event} == {"memory://bucket/out"}
    again = run("memory://bucket/in", "memory://bucket/out", pipe, "memory://bucket/prompts.csv")
    assert (again.done, again.resumed, again.failed_again) == (0, COUNT, 1)


def test_a_store_that_fails_now_and_then_costs_nothing(world, pipe, memory, monkeypatch):
    flaky = Flaky(memory, monkeypatch)
    summary = run("memory://bucket/in", "memory://bucket/out", pipe, "memory://bucket/prompts.csv")
    assert flaky.calls > 60
    assert summary.done == COUNT
    monkeypatch.undo()
    assert results(memory, "/bucket") == calm_results(world)


def test_the_row_goes_last_and_only_rows_are_trusted(world, pipe, memory, monkeypatch):
    """A store that takes no more rows after the second leaves pictures without rows; they are made again."""
    real = type(memory).pipe_file

    def put(system, path, data, **options):
        if "/rows/" in path and len(memory.find("/bucket/out/.grefine/rows")) >= 3:
            raise OSError("gone")
        real(system, path, data, **options)

    monkeypatch.setattr(type(memory), "pipe_file", put)
    summary = run("memory://bucket/in", "memory://bucket/out", pipe, "memory://bucket/prompts.csv")
    assert "cannot be reached" in summary.stopped
    monkeypatch.undo()
    rows = [
        json.loads(line) for path in memory.find("/bucket/out/.grefine/rows") for line in memory.cat(path).splitlines()
    ]
    told = {row["output"] for row in rows if row.get("output")}
    there = {name for name in results(memory, "/bucket") if name.endswith(".png") and "panels" not in name}
    assert len(told) == 5
    assert told < there
    half = sorted(there - told)[0]
    memory.pipe_file(f"/bucket/out/{half}", b"half of a picture")
    again = run("memory://bucket/in", "memory://bucket/out", pipe, "memory://bucket/prompts.csv")
    assert (again.resumed, again.done) == (5, COUNT - 5)
    assert results(memory, "/bucket") == calm_results(world)


def test_shards_share_an_address_and_are_merged_there(world, pipe, memory):
    source, address, table = "memory://bucket/in", "memory://bucket/out", "memory://bucket/prompts.csv"
    run(source, address, pipe, table, "shard 2/2")
    assert "Not done by any shard: 8 of shard 1/2" in merge(address).stopped
    run(source, address, pipe, table, "shard 1/2")
    for wrong, engine in (("shard 1/3 does not fit", "shard 1/3"), ("a run without shards does not fit", None)):
        with pytest.raises(ConfigError, match=f"'{address}' is being refined in 2 shards, so {wrong}"):
            run(source, address, pipe, table, engine)
    with pytest.raises(
        ConfigError, match="results of other settings: the seed changed|how files are written, the seed"
    ):
        run(source, address, pipe, table, "shard 1/2", seed=1)
    for _ in range(2):
        summary = merge(address)
        assert (summary.left, summary.stopped) == (0, "")
        assert in_any_order(results(memory, "/bucket")) == in_any_order(calm_results(world))
    assert {name.split("/")[-2] for name in memory.find("/bucket/out/.grefine/rows")} == {"journal"}
    again = run(source, address, pipe, table)
    assert (again.done, again.resumed) == (0, COUNT), "a run without shards goes on from a merged one"


def test_two_processes_with_one_number_are_refused(world, pipe, memory):
    source, address, table = "memory://bucket/in", "memory://bucket/out", "memory://bucket/prompts.csv"
    with mirrored(address) as other, other.claim("shards/1-of-2.lock", ""):
        with pytest.raises(
            ConfigError, match=f"Another process works on shard 1/2 of '{address}'.*taken for dead 10 min"
        ):
            run(source, address, pipe, table, "shard 1/2")
        run(source, address, pipe, table, "shard 2/2")
        assert "8 of shard 1/2" in merge(address).stopped
        claim = "/bucket/out/.grefine/claims/shards/1-of-2.lock"
        told = json.loads(memory.cat(claim))
        memory.pipe_file(claim, json.dumps(told | {"pid": 2**22 + 1}).encode())
        run(source, address, pipe, table, "shard 1/2")  # that process is dead
    assert merge(address).left == 0


def test_plans_at_an_address_are_those_of_a_folder(world, pipe, memory, tmp_path, monkeypatch):
    given = {"config": config(), "options": FolderOptions(batch_size=3)}
    plan_folder(world / "in", tmp_path / "plans", pipe, prompts=world / "prompts.csv", **given)
    flaky, table = Flaky(memory, monkeypatch, every=7), "memory://bucket/prompts.csv"
    summary = plan_folder("memory://bucket/in", "memory://bucket/plans", pipe, prompts=table, **given)
    assert (len(summary.planned), len(summary.failed), summary.out) == (COUNT, 1, "memory://bucket/plans")
    assert plan_folder("memory://bucket/in", "memory://bucket/plans", pipe, prompts=table, **given).kept == COUNT
    run("memory://bucket/in", "memory://bucket/out", pipe, table, plans="memory://bucket/plans")
    assert flaky.calls > 200
    monkeypatch.undo()
    here = {path.relative_to(tmp_path / "plans").as_posix(): path for path in (tmp_path / "plans").rglob("*.*.*")}
    assert len(here) == 3 * COUNT
    assert all(memory.cat(f"/bucket/plans/{name}") == path.read_bytes() for name, path in here.items())
    pages = (tmp_path / "plans/report.html").read_bytes(), memory.cat("/bucket/plans/report.html")
    assert pages[0].count(b"data:image") == pages[1].count(b"data:image") > 2 * COUNT
    assert results(memory, "/bucket") == calm_results(world)


def test_masks_at_an_address_are_those_of_a_folder(world, pipe, memory, tmp_path, monkeypatch):
    masks = tmp_path / "masks"
    for number, path in enumerate(sorted((world / "in").rglob("*.png"))):
        name = path.relative_to(world / "in").with_suffix(".png") if number % 2 else Path(f"{path.stem}_mask.png")
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        drawn = np.zeros((32, 32), np.uint8)
        drawn[number % 20 : number % 20 + 9, 5:15] = 255
        Image.fromarray(drawn).save(masks / name)
    names = [path.relative_to(masks).as_posix() for path in masks.rglob("*.png")]
    for name in names:
        memory.pipe_file(f"/bucket/masks/{name}", (masks / name).read_bytes())
    memory.pipe_file("/bucket/masks/0001.png", b"no mask")
    (masks / "0001.png").write_bytes(b"no mask")
    run(world / "in", tmp_path / "out", pipe, world / "prompts.csv", masks=masks)
    flaky, table = Flaky(memory, monkeypatch, every=7), "memory://bucket/prompts.csv"
    run("memory://bucket/in", "memory://bucket/out", pipe, table, masks="memory://bucket/masks")
    assert flaky.calls > len(names)
    monkeypatch.undo()
    told = {row["file"]: row for row in rows_of(memory, "/bucket") if row["kind"] == "image"}
    assert "The mask 'memory://bucket/masks/0001.png' is not an image" in told["sub/0001.png"]["reason"]
    here = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.png")
    }
    there = results(memory, "/bucket")
    assert {name: data for name, data in here.items() if ".grefine" not in name} == {
        name: data for name, data in there.items() if name.endswith(".png")
    }
    assert sum(row["state"] == "refined" for row in told.values()) > COUNT // 2
    with pytest.raises(ConfigError, match="'memory://bucket/none' does not exist"):
        run("memory://bucket/in", "memory://bucket/new", pipe, table, masks="memory://bucket/none")


def test_a_changed_plan_at_an_address_is_followed_and_a_damaged_one_named(world, pipe, memory):
    given = {"config": config(), "options": FolderOptions(batch_size=3)}
    table = "memory://bucket/prompts.csv"
    planned = plan_folder("memory://bucket/in", "memory://bucket/plans", pipe, prompts=table, **given).planned
    name, other = [picture.name for _, picture in planned if picture.kept == "repair"][:2]
    known = json.loads(memory.cat(f"/bucket/plans/{name}.plan.json"))
    off = known | {"regions": [region | {"on": False} for region in known["regions"]], "restore": False}
    memory.pipe_file(f"/bucket/plans/{name}.plan.json", json.dumps(off).encode())
    memory.pipe_file(f"/bucket/plans/{other}.plan.json", b"{")
    run("memory://bucket/in", "memory://bucket/out", pipe, table, plans="memory://bucket/plans")
    told = {row["file"]: row for row in rows_of(memory, "/bucket") if row["kind"] == "image"}
    assert told[name]["state"] == "untouched"
    assert told[other]["state"] == "failed"
    assert f"'memory://bucket/plans/{other}.plan.json' is no JSON" in told[other]["reason"]
    with pytest.raises(ConfigError, match="'memory://bucket/in' has no plans"):
        run("memory://bucket/in", "memory://bucket/new", pipe, table, plans="memory://bucket/in")


def test_a_data_set_at_an_address(world, pipe, memory, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run(world / "in", tmp_path / "out", pipe, world / "prompts.csv", dataset="parquet")
    memory.pipe_file("/bucket/set.parquet", (tmp_path / "out/dataset/part-00000.parquet").read_bytes())
    run("memory://bucket/set.parquet", "memory://bucket/out", pipe, dataset="same", batch_size=3)
    table = parquet.read_table(memory.open("/bucket/out/dataset/part-00000.parquet"))
    assert len(table) == COUNT
    for row in table.to_pylist():
        assert row["after"]["bytes"] == memory.cat(f"/bucket/out/{row['name']}")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("memory://nowhere/at/all", "'memory://nowhere/at/all' does not exist"),
        ("nothing://bucket/in", "nothing serves nothing://"),
        (f"ftp://user:{SECRET}@host/in", "ftp://host' holds a name, a key or a token"),
        (f"https://host/in?X-Amz-Signature={SECRET}", "https://host' holds a name, a key or a token"),
        ("memory://bucket/out/in", "OUT 'memory://bucket/out' is or holds the input"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused_in_a_sentence(pipe, memory, address, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)) as error:
        run(address, "memory://bucket/out", pipe)
    assert SECRET not in str(error.value)


@pytest.fixture(scope="module")
def server():
    """moto's S3 server on loopback, with switches for what goes wrong."""
    pytest.importorskip("s3fs", reason="needs grefine[s3]")
    moto = pytest.importorskip("moto.server", reason="needs moto[s3], flask and flask-cors")
    from werkzeug.serving import make_server

    application, faults = moto.DomainDispatcherApplication(moto.create_backend_app), Faults()
    served = make_server("127.0.0.1", 0, faults.wrap(application), threaded=True)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.port}", faults
    served.shutdown()


class Faults:
    """Answers now and then with an error, or cuts the connection in the middle of what is sent."""

    def __init__(self):
        self.every = self.count = 0
        self.denied = ""
        self.seen = []

    def wrap(self, application):
        def call(environ, answer):
            self.count += 1
            kind = self.count // self.every % 4 if self.every and self.count % self.every == 0 else -1
            if self.denied and environ["PATH_INFO"].startswith(self.denied):
                return self.refuse(answer, "403 Forbidden", "AccessDenied")
            if kind == 0:
                return self.refuse(answer, "500 Internal Server Error", "InternalError")
            if kind == 1:
                return self.refuse(answer, "503 Slow Down", "SlowDown")
            if kind == 2:
                time.sleep(1.5)  # longer than the client waits
                return self.refuse(answer, "500 Internal Server Error", "InternalError")
            if kind == 3:
                environ["wsgi.input"].read(10)
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                return []
            self.seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            return application(environ, answer)

        return call

    @staticmethod
    def refuse(answer, status, code):
        answer(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>no {SECRET}</Message></Error>".encode()]


@pytest.fixture
def bucket(server, world, monkeypatch):
    address, faults = server
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setitem(
        fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 1, "retries": {"max_attempts": 1}}}
    )
    system = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    if not system.exists("pictures"):
        system.mkdir("pictures")
        upload(system, world, "pictures")
    if system.exists("pictures/out"):
        system.rm("pictures/out", recursive=True)
    faults.seen.clear()
    yield system, faults
    faults.every, faults.denied = 0, ""


def test_a_bucket_gives_what_a_folder_gives_whatever_goes_wrong(world, pipe, bucket):
    system, faults = bucket
    events = []
    faults.every = 23
    run("s3://pictures/in", "s3://pictures/out", pipe, "s3://pictures/prompts.csv", report=events.append)
    faults.every = 0
    assert faults.count > 100
    assert results(system, "pictures") == calm_results(world)
    # Of every batch the pictures were there before their rows were sent.
    puts = [path for method, path in faults.seen if method == "PUT"]
    rows = [
        json.loads(line)
        for path in system.find("pictures/out/.grefine/rows")
        for line in system.cat(path).splitlines()
    ]
    for row in (row for row in rows if row.get("output")):
        unit = f"/pictures/out/.grefine/rows/journal/{row['unit']:010}.jsonl"
        assert puts.index(f"/pictures/out/{row['output']}") < puts.index(unit)
    written = b"".join(system.cat(path) for path in system.find("pictures/out")) + json.dumps(events).encode()
    assert SECRET.encode() not in written


def test_a_run_into_a_bucket_that_is_killed_goes_on(world, pipe, bucket):
    system, faults = bucket
    arguments = ("s3://pictures/in", "s3://pictures/out", pipe, "s3://pictures/prompts.csv")
    for turn in range(3):
        child = os.fork()
        if child == 0:
            fsspec.asyn.reset_lock()
            Deadly(random.Random(turn).randint(60, 120))
            run(*arguments)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, -9)
    run(*arguments)
    assert in_any_order(results(system, "pictures")) == in_any_order(calm_results(world))


def test_a_bucket_without_rights_is_refused_before_work_begins(pipe, bucket):
    _, faults = bucket
    for denied, what in (("/pictures/in", "pictures/in"), ("/pictures/out", "pictures/out")):
        faults.denied = denied
        with pytest.raises(
            ConfigError, match=f"'s3://{what}.* may not be used: the environment's credentials"
        ) as error:
            run("s3://pictures/in", "s3://pictures/out", pipe)
        assert SECRET not in str(error.value)


def test_a_pipeline_at_an_address_is_copied_once_and_anew_when_it_changes(world, pipe, memory, tmp_path, monkeypatch):
    monkeypatch.setenv("GREFINE_CACHE", str(tmp_path / "cache"))
    pipe.save_pretrained(tmp_path / "own")
    for path in (file for file in (tmp_path / "own").rglob("*") if file.is_file()):
        memory.pipe_file(f"/bucket/weights/{path.relative_to(tmp_path)}", path.read_bytes())
    copies, address = tmp_path / "cache/addresses", "memory://bucket/weights/own"
    fetched = []
    real = type(memory).get_file
    monkeypatch.setattr(type(memory), "get_file", lambda *given: fetched.append(given[1]) or real(*given))
    flaky = Flaky(memory, monkeypatch, names=("get_file", "ls", "info"))
    run(world / "in", tmp_path / "plain", str(tmp_path / "own"), world / "prompts.csv")
    run(world / "in", tmp_path / "first", address, world / "prompts.csv")
    assert set(fetched) == {path for path in memory.store if "/weights/" in path}
    fetched.clear()
    run(world / "in", tmp_path / "second", address, world / "prompts.csv")
    assert not fetched, "the second run found the copy"
    monkeypatch.setattr(type(memory), "get_file", real)
    assert flaky.calls > 20
    (copy,) = copies.glob("*/own")
    assert sorted(p.name for p in copy.rglob("*.*")) == sorted(p.name for p in (tmp_path / "own").rglob("*.*"))
    for name in ("first", "second"):
        files = {p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*.png")}
        assert files
        assert all((tmp_path / name / f).read_bytes() == (tmp_path / "plain" / f).read_bytes() for f in files)
    index = memory.cat("/bucket/weights/own/model_index.json")
    for age, changed in enumerate((index + b"\n", index + b"\n\n", index + b"\n\n\n")):
        for folder in copies.iterdir():
            if folder.stat().st_mtime > 2**30 + 3:  # not aged yet
                os.utime(folder, (2**30 + age, 2**30 + age))
        memory.pipe_file("/bucket/weights/own/model_index.json", changed)
        assert (places.here(address) / "model_index.json").read_bytes() == changed
    assert len(list(copies.iterdir())) == 3
    assert not copy.exists()
    memory.pipe_file("/bucket/bad/../../out.txt", b"")
    with pytest.raises(ConfigError, match="'memory://bucket/bad' holds a file whose name is no path"):
        places.here("memory://bucket/bad")
    with pytest.raises(ConfigError, match="'memory://bucket/nothing' does not exist"):
        run(world / "in", tmp_path / "none", "memory://bucket/nothing", world / "prompts.csv")
