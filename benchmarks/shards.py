"""Measure one process against several shards, and the merge: `python -m benchmarks.shards [--count 200] [--shards 2]`.

Every process has one thread. What is compared is the work of the slowest process, from its first look at the folder to
its last row; loading is told beside it, because a long run does not notice it. `--merge ROWS` measures a merge of that
that many made-up rows in two journals, without pictures (`--page`: with 151 pictures that they share, and the page).
`--plan ROWS` lists so many pictures of a folder, a list, a Parquet file and a tar, and measures the peak memory.
`--ray` measures the start of a cluster of this machine and what its dealing adds per 1,000 pictures, by work that does
nothing, and then a run of `--count` pictures beside one in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.folder import make_folder
from benchmarks.measure import BUSY
from grefine.folder.merge import merge
from grefine.folder.options import FolderOptions
from grefine.io.journal import Journal

_PICTURES = 151
"""A prime, so that a page of every so many-th row has all of them."""


def refine(source: Path, out: Path, pipeline: str, shards: int) -> tuple[float, float]:
    """Refine a folder in so many processes; return the seconds of the slowest one's work, and of everything."""
    line = [sys.executable, "-m", "grefine", "refine", str(source), "-o", str(out), "--pipeline", pipeline, "--json"]
    line += ["--no-panels", "--no-report", "--force"]
    start = time.monotonic()
    running = []
    for number in range(shards):
        log = out.with_name(f"{out.name}-{number}.jsonl")
        engine = ["--engine", f"shard {number + 1}/{shards}"] if shards > 1 else []
        with log.open("wb") as file:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            running.append((subprocess.Popen([*line, *engine], stdout=file, env=environment), log))
    seconds = []
    for process, log in running:
        if process.wait():
            raise RuntimeError(f"A process ended with {process.returncode}.")
        seconds.append(json.loads(log.read_text().splitlines()[-1])["seconds"])
    if shards > 1:
        merge(out)
    return max(seconds), time.monotonic() - start


def merge_rows(rows: int, folder: Path, page: bool = False) -> tuple[float, float]:
    """Merge so many made-up rows of two shards; return seconds and the command's peak memory in MiB."""
    out, size = folder / "out", 8
    options = asdict(FolderOptions(report=page, pattern=("nothing",)))
    share = {"of": 2, "sources": [str(folder / "in")], "options": options}
    start = {"kind": "run", "header": {}, "view": {"facts": []}, "shard": share}
    if page:
        _make_large(folder / "in", 0)
        _make_large(out, 1)
    (folder / "in").mkdir(exist_ok=True)
    pictures = sorted((folder / "in").glob("*.jpg"))
    (out / ".grefine/shards").mkdir(parents=True)
    for number in (1, 2):
        with Journal(out / f".grefine/shards/{number}-of-2-{number:08x}.jsonl") as journal:
            journal._durable = False
            journal.append([start])
            for first in range((number - 1) * size, rows, 2 * size):
                journal.append([_row(index, pictures) for index in range(first, min(first + size, rows))])
    begun = time.monotonic()
    told = f"from grefine.folder.merge import merge; done = merge({str(out)!r}).done"
    done, peak = alone(told)
    seconds = time.monotonic() - begun
    if done != rows:
        raise RuntimeError(f"{done} of {rows} rows were merged.")
    return seconds, peak


def alone(code: str) -> tuple[int, float]:
    """Run code that sets `done` in a process of its own; return that and the process's peak memory in MiB."""
    # Its own peak since it began: ru_maxrss would still hold the peak of the process that started it.
    told = "from pathlib import Path\n" + code
    told += "\nprint(done, *Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[:1])"
    found = subprocess.run([sys.executable, "-c", told], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return int(found[0]), int(found[1]) / 1024


def plan(rows: int, folder: Path) -> None:
    """List so many pictures of every kind of source, and print time and peak memory."""
    import pyarrow
    import pyarrow.parquet

    folder.mkdir()
    names = [f"{index // 1000:04}/{index:07}.png" for index in range(rows)]
    for name in names:
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / name).touch()
    (folder / "list.txt").write_text("\n".join(str(folder / "tree" / name) for name in names))
    (folder / "set").mkdir()
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", image), ("prompt", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(folder / "set.parquet", schema) as writer:
        for first in range(0, rows, 1000):
            some = [
                {"image": {"bytes": b"\x89PNG", "path": n}, "prompt": "a red ball"}
                for n in names[first : first + 1000]
            ]
            writer.write_table(pyarrow.Table.from_pylist(some, schema))
    with tarfile.open(folder / "set.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))
    for source in ("tree", "@list.txt", "set.parquet", "set.tar"):
        path = f"@{folder / source[1:]}" if source.startswith("@") else str(folder / source)
        code = "from grefine.folder.worklist import list_work; from grefine.folder.options import FolderOptions\n"
        code += f"done = sum(1 for _ in list_work([{path!r}], Path({str(folder / 'out')!r}), FolderOptions()))"
        begun = time.monotonic()
        found, peak = alone(code)
        if found != rows:
            raise RuntimeError(f"{found} of {rows} were listed.")
        print(f"{rows:,} of {source}: {time.monotonic() - begun:.1f} s, peak {peak:.0f} MiB", flush=True)


def ray_alone(count: int = 10_000, size: int = 8) -> None:
    """Time the start of a cluster, and so many pictures' rows there and back, in batches, without any work."""
    from grefine.cluster import Cluster, leave, packed, work_on

    batches = [packed([_row(index, ()) for index in range(first, first + size)]) for first in range(0, count, size)]
    begun = time.monotonic()
    found = work_on(Cluster(gpus_per_worker=0, actors=1), lambda: _same, {}, batches)
    next(found)
    ready = time.monotonic()
    came = 1 + sum(1 for _ in found)
    spent = time.monotonic() - ready
    leave()
    if came != len(batches):
        raise RuntimeError(f"{came} of {len(batches)} batches came back.")
    print(f"Ray alone: {ready - begun:.1f} s to the first batch, then {spent * 1000 / count:.2f} s per 1,000 pictures")


def _same(rows: object) -> object:
    return rows


def ray(count: int, folder: Path, pipeline: str) -> None:
    """Compare a run on a cluster of two actors with one of one process."""
    plain = refine(folder / "in", folder / "plain", pipeline, 1)
    line = [sys.executable, "-m", "grefine", "refine", str(folder / "in"), "--json"]
    line += ["--pipeline", pipeline, "--no-panels", "--no-report", "--force"]
    line += ["--engine", "ray", "--gpus-per-worker", "0"]
    for actors in (1, 2):
        begun = time.monotonic()
        out = ["-o", str(folder / f"ray{actors}"), "--actors", str(actors)]
        told = subprocess.run([*line, *out], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        whole = time.monotonic() - begun
        work = json.loads(told[-1])["seconds"]
        print(
            f"{count} pictures: one process {plain[0]:.1f} s of {plain[1]:.1f} s, {actors} actor(s) {work:.1f} s of "
            f"{whole:.1f} s; {whole - work:.1f} s beside the work (plain {plain[1] - plain[0]:.1f} s)",
            flush=True,
        )


def _make_large(folder: Path, seed: int) -> None:
    """Write a few pictures that are too large together to lie inside a page."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed)
    for number in range(_PICTURES):
        colours = Image.fromarray(noise.integers(0, 256, (80, 80, 3), np.uint8))
        large = colours.resize((640, 640), Image.Resampling.BICUBIC)
        large.effect_spread(9).save(folder / f"{number:03}.jpg", quality=90)


def _row(index: int, pictures: Sequence[Path]) -> dict[str, object]:
    name = f"{index // 1000:04}/{index:07}.png"
    picture = pictures[index % len(pictures)] if pictures else Path("/pictures", name)
    state = ("refined", "refined", "kept", "untouched")[(index // 20 + index) % 4]
    return {
        "kind": "image",
        "file": name,
        "source": str(picture),
        "state": state,
        "reason": "p rose from 0.41 to 0.62 and a from 0.55 to 0.71, more than their noise.",
        "input": {"sha256": f"{index:064x}", "bytes": index, "mtime_ns": index, "ctime_ns": index},
        "prompt": "a red ball on green grass beside a blue house in the snow",
        "prompt_origin": "A1111 infotext",
        "output": picture.name if pictures else name,
        "decision": {"kept": "both" if state == "refined" else "original", "guarded": True},
        "scores": {"before": {"p": 0.41, "a": 0.55}, "after": {"p": 0.62, "a": 0.55 + index % 97 / 200}},
        "noise": {"p": 0.01, "a": 0.01},
        "area": 0.1,
        "moved": 0.1,
    }


def main() -> None:
    """Run what the command line asks for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="tiny")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--merge", type=int, default=0, metavar="ROWS")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the merged OUT to a new folder")
    parser.add_argument("--plan", type=int, default=0, metavar="ROWS")
    parser.add_argument("--ray", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"load {load:.1f} on {os.cpu_count()} cores{': wall times tell little' if load > BUSY else ''}")
    with tempfile.TemporaryDirectory(prefix="grefine-shards-") as folder:
        if given.merge:
            seconds, peak = merge_rows(given.merge, Path(folder), given.page)
            print(f"merge of {given.merge:,} rows: {seconds:.1f} s, peak {peak:.0f} MiB")
            for view in ("results.csv", "report.html", "report_files"):
                files = [Path(folder, "out", view), *Path(folder, "out", view).glob("*")]
                sizes = [file.stat().st_size for file in files if file.is_file()]
                print(f"{view}: {sum(sizes) / 2**20:.1f} MiB in {len(sizes):,} files")
            if given.keep:
                shutil.copytree(Path(folder, "out"), given.keep)
            return
        if given.plan:
            plan(given.plan, Path(folder, "plan"))
            return
        if given.ray:
            ray_alone()
        make_folder(Path(folder, "in"), given.count)
        if given.ray:
            ray(given.count, Path(folder), given.pipeline)
            return
        for turn in range(given.rounds):
            times = {}
            for shards in (1, given.shards):
                times[shards] = refine(Path(folder, "in"), Path(folder, f"out{turn}-{shards}"), given.pipeline, shards)
                work, whole = times[shards]
                print(f"{shards} process(es): {given.count / work:.2f} images/s, {whole - work:.1f} s beside the work")
            print(f"{times[1][0] / times[given.shards][0]:.2f} times as fast")


if __name__ == "__main__":
    main()
