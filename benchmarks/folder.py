"""Measure `refine_folder` against the loop that one would write: `python -m benchmarks.folder [--count 60]`.

A mixed folder of toy scenes (half good, 40 % lightly and 10 % heavily damaged), prompts in the files. The loop opens
each image, reads its prompt, calls the pipeline and saves the result. Both get the same settings and seed; their
decisions must be equal. benchmarks/growth.py measures time and memory against the number of images.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin

from benchmarks.measure import compared, interleave
from benchmarks.page import compared_table
from benchmarks.part import Part
from grefine import GRefinePipeline, refine_folder
from grefine.folder.options import FolderOptions
from grefine.io.images import read_image
from grefine.io.journal import read_journal
from grefine.io.prompts import find_prompt
from grefine.refine.settings import changed_settings

SHARES = {"good": 0.5, "light": 0.4, "heavy": 0.1}


def make_folder(folder: Path, count: int, seed: int = 0) -> Counter[str]:
    """Render a mixed folder; return how many images of each kind it has."""
    from lab.world.captions import describe
    from lab.world.defects import damage
    from lab.world.pictures import to_picture
    from lab.world.render import render
    from lab.world.scene import sample

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
    options = FolderOptions(batch_size=batch_size, panels=False, report=False, force=True)
    numbers = {"loop": count(), "folder": count()}
    decisions: dict[str, dict[str, str]] = {}

    def loop() -> None:
        decisions["loop"] = plain_loop(pipe, source, work / f"loop{next(numbers['loop'])}", config)

    def folder() -> None:
        refine_folder(source, work / f"folder{next(numbers['folder'])}", pipe, config=config, options=options)

    times = interleave({"loop": loop, "folder": folder}, rounds, warm=0, least=0.0)
    rows = {r["file"]: r for r in read_journal(work / "folder0/.grefine/journal.jsonl") if r["kind"] == "image"}
    kept = decisions["loop"]
    return {
        "times": times,
        "images": len(kept),
        "decisions": dict(Counter(kept.values())),
        "decisions that differ": sum(rows[name]["decision"]["kept"] != one for name, one in kept.items()),
        "largest difference of a pixel": max(
            _difference(work / "loop0" / name, work / "folder0" / name) for name in kept
        ),
    }


def measured(images: int, rounds: int, batch_size: int, threads: int, pipeline: str, config: str) -> dict[str, Any]:
    """Render a mixed folder and compare both ways on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    pipe = GRefinePipeline.from_pretrained(pipeline)
    pipe.set_progress_bar_config(disable=True)
    work = Path(tempfile.mkdtemp(prefix="grefine-folder-"))
    try:
        kinds = make_folder(work / "in", images)
        make_folder(work / "warm", 4, seed=1)
        settings = changed_settings(config)
        plain_loop(pipe, work / "warm", work / "warm_out", settings)
        found = compare(pipe, work / "in", work, settings, batch_size, rounds)
    finally:
        shutil.rmtree(work)
        torch.set_num_threads(before)
    return found | {"folder": dict(kinds), "threads": threads}


def part(
    quick: bool = False, device: str = "cpu", images: int = 60, pipeline: str = "tiny", config: str = "default"
) -> Part:
    """Measure a folder run against the loop, on two threads."""
    del device
    threads = min(2, os.cpu_count() or 1)
    found = measured(images // 3 if quick else images, 1 if quick else 2, 16, threads, pipeline, config)
    times, what = found["times"], f"mixed folder of {found['images']} images"
    facts = {name: found[name] for name in ("decisions that differ", "largest difference of a pixel")}
    rows = [
        compared(
            f"{what}, wall time, {threads} threads", times["folder"], times["loop"], "loop", 1.5, "wall", **facts
        ),
        compared(f"{what}, CPU time of all threads", times["folder"], times["loop"], "loop", **facts),
    ]
    notes = [f"What the loop decided: {', '.join(f'{n} {kept}' for kept, n in found['decisions'].items())}."]
    if not rows[0]["met"]:
        notes.append(
            "The aim is about wall time on two free cores. Batches pay where several images are repainted "
            "together and where writing goes on beside the work; with other work on the cores there is nothing to go "
            "on beside."
        )
    return Part(
        "folder",
        "Folders",
        "`refine_folder` against the loop over `pipe(...)` that one would write, same settings and seeds: half of the "
        "images good, 40 % lightly and 10 % heavily damaged.",
        rows,
        notes=notes,
    )


def _difference(one: Path, two: Path) -> int:
    import numpy as np

    pair = [np.asarray(read_image(path).rgb).astype(int) for path in (one, two)]
    return int(np.abs(pair[0] - pair[1]).max())


def main() -> None:
    """Run what the command line asks for and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="tiny")
    parser.add_argument("--config", default="default")
    parser.add_argument("--count", type=int, default=60)
    given = parser.parse_args()
    found = part(images=given.count, pipeline=given.pipeline, config=given.config)
    print("\n".join([*compared_table(found.rows), *found.notes]))


if __name__ == "__main__":
    main()
