"""Measure `refine_folder` against the loop that one would write: `python benchmarks/folder.py [--count 60] [--scale]`.

A mixed folder of toy scenes (half good, 40 % lightly and 10 % heavily damaged), prompts in the files. The loop opens
each image, reads its prompt, calls the pipeline and saves the result. Both get the same settings and seed; their
decisions must be equal. `--scale 10,100,1000` also measures time and memory against the number of images.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin

from grefine import GRefinePipeline, refine_folder
from grefine.folder.options import FolderOptions
from grefine.folder.settings import changed_settings
from grefine.io.images import read_image
from grefine.io.journal import read_journal
from grefine.io.metadata import find_prompt

SHARES = {"good": 0.5, "light": 0.4, "heavy": 0.1}


def make_folder(folder: Path, count: int, seed: int = 0) -> Counter[str]:
    """Render a mixed folder; return how many images of each kind it has."""
    from grefine.toyworld.captions import describe
    from grefine.toyworld.defects import damage
    from grefine.toyworld.pictures import to_picture
    from grefine.toyworld.render import render
    from grefine.toyworld.scene import sample

    folder.mkdir(parents=True)
    generator, words = torch.Generator().manual_seed(seed), random.Random(seed)
    kinds: Counter[str] = Counter()
    done = 0
    while done < count:
        scenes = sample(min(64, count - done), generator)
        rendered = render(scenes)
        objects = rendered.objects.any(1)
        once = damage(rendered.images, objects, generator)
        twice = damage(damage(once.images, objects, generator).images, objects, generator)
        for index in range(len(rendered.images)):
            share = (done % 10) / 10
            kind = "good" if share < SHARES["good"] else "light" if share < 0.9 else "heavy"
            kinds[kind] += 1
            image = {"good": rendered.images, "light": once.images, "heavy": twice.images}[kind][index]
            info = PngImagePlugin.PngInfo()
            info.add_text("parameters", describe(scenes, index, words).text)
            to_picture(image).save(folder / f"{done:05}_{kind}.png", pnginfo=info)
            done += 1
    return kinds


def plain_loop(pipe: Any, source: Path, out: Path, config: Any) -> dict[str, str]:
    """Refine one image after the other, as a user would write it; return the decision of each."""
    out.mkdir(parents=True)
    decisions = {}
    for path in sorted(source.iterdir()):
        found = find_prompt(read_image(path))
        image = Image.open(path).convert("RGB")
        done = pipe(
            prompt=found.prompt if found else "",
            image=image,
            config=config,
            generator=torch.Generator().manual_seed(0),
            force=True,
        )
        done.images[0].save(out / path.name)
        decisions[path.name] = done.results[0].decision.kept
    return decisions


def compare(pipe: Any, source: Path, work: Path, config: Any, batch_size: int, rounds: int) -> dict[str, Any]:
    """Time both ways in turn, and compare their decisions and pixels."""
    seconds: dict[str, list[float]] = {"loop": [], "folder": []}
    options = FolderOptions(batch_size=batch_size, panels=False, report=False, force=True)
    loop: dict[str, str] = {}
    for number in range(rounds):
        start = time.perf_counter()
        loop = plain_loop(pipe, source, work / f"loop{number}", config)
        seconds["loop"].append(time.perf_counter() - start)
        start = time.perf_counter()
        refine_folder(source, work / f"folder{number}", pipe, config=config, options=options)
        seconds["folder"].append(time.perf_counter() - start)
    rows = {r["file"]: r for r in read_journal(work / "folder0/.grefine/journal.jsonl") if r["kind"] == "image"}
    other = [name for name, kept in loop.items() if rows[name]["decision"]["kept"] != kept]
    apart = max(_difference(work / "loop0" / name, work / "folder0" / name) for name in loop)
    best = {name: min(values) for name, values in seconds.items()}
    return {
        "images": len(loop),
        "seconds": {name: [round(v, 3) for v in values] for name, values in seconds.items()},
        "images_per_second": {name: round(len(loop) / value, 3) for name, value in best.items()},
        "ratio": round(best["loop"] / best["folder"], 3),
        "decisions": dict(Counter(loop.values())),
        "decisions_that_differ": other,
        "largest_pixel_difference": apart,
    }


def scale(pipeline: str, counts: list[int], batch_size: int) -> list[dict[str, Any]]:
    """Measure time and memory of a run in a process of its own, for each number of images."""
    found = []
    for count in counts:
        command = [
            sys.executable,
            __file__,
            "--pipeline",
            pipeline,
            "--one",
            str(count),
            "--batch-size",
            str(batch_size),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


def one_run(pipeline: str, count: int, batch_size: int) -> dict[str, Any]:
    """Refine a mixed folder once, after a small warm-up run, and report time and peak memory."""
    pipe = GRefinePipeline.from_pretrained(pipeline)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        options = FolderOptions(batch_size=batch_size, panels=False, report=False, force=True)
        make_folder(work / "warm", batch_size, seed=1)
        refine_folder(work / "warm", work / "warm_out", pipe, options=options)
        make_folder(work / "in", count)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        refine_folder(work / "in", work / "out", pipe, options=options)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "images": count,
        "seconds": round(seconds, 2),
        "seconds_per_image": round(seconds / count, 4),
        "peak_mib": round(peak / 1024),
        "grown_mib": round((peak - before) / 1024, 1),
    }


def _difference(one: Path, two: Path) -> int:
    import numpy as np

    pair = [np.asarray(read_image(path).rgb).astype(int) for path in (one, two)]
    return int(np.abs(pair[0] - pair[1]).max())


def main() -> None:
    """Run what the command line asks for and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="tiny")
    parser.add_argument("--config", default="default")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--scale", default="", help="numbers of images, e.g. 10,100,1000")
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "folder.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.one:
        print(json.dumps(one_run(given.pipeline, given.one, given.batch_size)))
        return
    pipe = GRefinePipeline.from_pretrained(given.pipeline)
    pipe.set_progress_bar_config(disable=True)
    config = changed_settings(given.config)
    work = Path(tempfile.mkdtemp(prefix="grefine-folder-"))
    try:
        kinds = make_folder(work / "in", given.count)
        make_folder(work / "warm", 4, seed=1)
        plain_loop(pipe, work / "warm", work / "warm_out", config)
        result: dict[str, Any] = {"folder": dict(kinds), "threads": given.threads, "batch_size": given.batch_size}
        result |= {"pipeline": given.pipeline, "torch": torch.__version__, "machine": platform.machine()}
        result |= {"load_before": [round(v, 1) for v in os.getloadavg()]}
        result["against_loop"] = compare(pipe, work / "in", work, config, given.batch_size, given.rounds)
    finally:
        shutil.rmtree(work)
    if given.scale:
        result["scale"] = scale(given.pipeline, [int(n) for n in given.scale.split(",")], given.batch_size)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
