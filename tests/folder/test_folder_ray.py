"""A folder on a Ray cluster of this machine: the bytes of one process, each picture once, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_world import config, make_folder, random_pipeline, rows, tree, without_seconds

from grefine.cluster import Cluster
from grefine.errors import ConfigError
from grefine.folder import workers
from grefine.folder.options import FolderOptions
from grefine.folder.runner import refine_folder
from grefine.io.atomic import PARTIAL_PREFIX

ray = pytest.importorskip("ray", reason="needs grefine[ray]")
pytestmark = pytest.mark.slow
COUNT = 300
TWO = Cluster(gpus_per_worker=0, actors=2)
HERE = Path(__file__).parent


def run(root, out, engine="ray", cluster=TWO, pipeline=None, report=None, **changes):
    options = FolderOptions(batch_size=4, panels=False)
    extra = {"report": report} if report else {}
    return refine_folder(
        root / "in",
        out,
        str(pipeline or root / "pipe"),
        config=config(**changes),
        options=options,
        engine=engine,
        cluster=cluster,
        **extra,
    )


@pytest.fixture(scope="module", autouse=True)
def _environment(tmp_path_factory):
    """Actors import what this process imports, and two of them share two cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{HERE.parent.parent}:{HERE}:{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("GREFINE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("ray")
    random_pipeline().save_pretrained(root / "pipe")
    make_folder(root / "in", COUNT)
    (root / "in/broken.png").write_bytes(b"no picture")
    run(root, root / "calm", engine=None)
    return root


def check(out, world):
    assert tree_of(out) == tree_of(world / "calm")
    done = [row["file"] for row in rows(out) if row["state"] != "failed"]
    assert len(done) == len(set(done)) == COUNT
    assert not list(out.rglob(f"{PARTIAL_PREFIX}*"))


def tree_of(out):
    """All but the page: it says of a result that it was found without its row."""
    return {name: digest for name, digest in tree(out).items() if "report" not in name}


def test_a_cluster_gives_what_one_process_gives(world):
    events = []
    # Both actors, and this process, copy the weights from an address.
    summary = run(world, world / "out", pipeline=f"file://{world}/pipe", report=events.append)
    assert (summary.done, summary.counts["failed"]) == (COUNT, 1)
    check(world / "out", world)
    assert list(Path(os.environ["GREFINE_CACHE"]).glob("addresses/*/pipe/model_index.json"))
    assert (world / "out/report.html").read_bytes() == (world / "calm/report.html").read_bytes()
    tables = [without_seconds((world / place / "results.csv").read_bytes()) for place in ("out", "calm")]
    assert tables[0] == tables[1]
    assert {event["event"] for event in events} >= {"start", "image", "progress", "end"}
    assert run(world, world / "out").resumed == COUNT


PROGRAM = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
from pathlib import Path
from test_folder_ray import run
print(run(Path({world!r}), Path({out!r})).done, flush=True)
"""


def start(world, out):
    text = PROGRAM.format(root=str(HERE.parent.parent), here=str(HERE), world=str(world), out=str(out))
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, start_new_session=True)


def actors():
    """Process ids of the actors, by the name that Ray gives their processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::MapWorker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_for(count, out, process):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        journal = out / ".grefine/journal.jsonl"
        if journal.exists() and journal.read_text().count('"kind": "image"') >= count:
            return
        assert process.poll() is None
        time.sleep(0.1)
    raise AssertionError("nothing was done")


def test_an_actor_and_then_the_driver_are_killed(world, tmp_path):
    out = tmp_path / "out"
    process = start(world, out)
    try:
        wait_for(20, out, process)
        before = actors()
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        wait_for(100, out, process)
        assert before[0] not in actors()
        process.kill()
        process.wait()
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    told = len(rows(out))
    assert told < COUNT
    while actors():
        time.sleep(0.2)
    again = start(world, out)
    output = again.communicate(timeout=400)[0]
    assert again.returncode == 0
    assert int(output.split()[-1]) == COUNT - sum(row["state"] != "failed" for row in rows(out)[:told])
    check(out, world)


def test_what_cannot_be_is_refused_before_work_begins(world, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="The cluster has 0 GPUs and a worker asks for 1"):
        run(world, tmp_path / "out", cluster=Cluster())
    with pytest.raises(ConfigError, match="has room for [0-9]+ actors, not for 999"):
        run(world, tmp_path / "out", cluster=Cluster(gpus_per_worker=0, actors=999))
    real = workers.given_afar

    def another(asked, ready, header):
        return real(asked, ready, header | {"version": "0.0.1", "weights": "other"})

    monkeypatch.setattr("grefine.folder.runner.given_afar", another)
    with pytest.raises(
        ConfigError, match="is not as this machine: the version of grefine, the pipeline's weights differ"
    ):
        run(world, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.png"))


def test_judges_on_a_cluster_give_what_they_give_here(world, tmp_path, monkeypatch):
    """`score` and `evaluate` with a judge of the package, over pictures that a run left."""
    from typer.testing import CliRunner

    from grefine.cli.main import app

    before, after = tmp_path / "before", tmp_path / "after"
    for folder, source in ((before, world / "in"), (after, world / "calm")):
        folder.mkdir()
        for number in range(0, 60, 4):
            for path in (*source.glob(f"{number:04}.*g"), *(source / "sub").glob(f"{number:04}.*g")):
                (folder / path.name).write_bytes(path.read_bytes())
    assert len(list(after.iterdir())) > 10
    ray_options = ["--engine", "ray", "--gpus-per-worker", "0", "--actors", "2"]
    for command, out in ((["score", str(after)], "scores.csv"), (["evaluate", str(before), str(after)], "scores")):
        told = []
        for number, options in enumerate(([], ray_options)):
            result = CliRunner().invoke(
                app,
                [
                    *command,
                    "--metrics",
                    "mdiqa",
                    "--pipeline",
                    "tiny",
                    "--force",
                    "-o",
                    str(tmp_path / f"{number}-{out}"),
                    *options,
                ],
            )
            assert result.exit_code == 0, result.output
            path = tmp_path / f"{number}-{out}"
            told.append((path / "scores.csv" if path.is_dir() else path).read_bytes())
        assert sorted(told[0].splitlines()) == sorted(told[1].splitlines())
        assert told[0].count(b"\n") > 10
