"""What our painter adds to a pipeline of diffusers: the same pipeline called on the same crops, ready-made.

    python -m benchmarks.run --only painters

The pipelines are toys of random weights (`toy_painters.py`), far cheaper per pixel than any published one, so the
share that is ours is larger here than with real weights: it costs the same milliseconds there.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.measure import Row, compared, interleave
from benchmarks.part import Part, Table
from benchmarks.toy_painters import ALL, build
from grefine.refine.inputs import read_pictures
from grefine.refine.job import open_jobs
from grefine.refine.painters.diffusers import DiffusersPainter, painter_of
from grefine.refine.painters.protocol import CropJob, Painting

SIDE, STEPS = 96, 10


class Owner:
    """The little of a GRefinePipeline that a painter asks for."""

    interrupt = False
    _progress_bar_config = {"disable": True}  # noqa: RUF012


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Compare CPU time per crop of 96², ten executed steps, for every family."""
    del device
    rows: list[Row] = []
    cells = []
    for name in ("sd15", "z-image") if quick else [name for name in ALL if name != "qwen-image-edit"]:
        painter, crops = ready(name)
        given = painter._call(crops)
        painter(crops)
        pipe = painter.pipe

        def ours(painter: DiffusersPainter = painter, crops: list[CropJob] = crops) -> object:
            return painter(crops)

        @torch.no_grad()
        def bare(pipe: object = pipe, given: dict = given) -> object:
            given["generator"] = [torch.Generator().manual_seed(0)]
            return pipe(**given)  # type: ignore[operator]

        times = interleave({"ours": ours, "bare": bare}, 3 if quick else 7)
        row = compared(f"{name}, one crop of {SIDE}²", times["ours"], times["bare"], "the same pipeline bare", 0.95)
        rows.append(row)
        cells.append([name, 1000 * (row["ours"] - row["other"]), 100 * (1 / row["ratio"] - 1)])
    return Part(
        "painters",
        "Painters",
        "A crop with its mask through our painter, against the same pipeline of diffusers called on that crop, cut, "
        f"resized and masked before; {STEPS} executed steps at strength 0.8. The aim is at most 5 % more: a ratio of "
        "at least 0.95. The pipelines are toys, so that what is ours weighs more here than with real weights.",
        rows,
        [Table("What is ours", ["family", "CPU ms per crop", "% of the bare call"], cells)],
    )


def ready(name: str) -> tuple[DiffusersPainter, list[CropJob]]:
    """Return a painter of a family, ready for a call, and one crop for it."""
    pipe, arguments = build(name)
    painter = painter_of(pipe, arguments=arguments, side=SIDE).at(Painting(Owner(), steps=STEPS))
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    mask = np.zeros((80, 80), bool)
    mask[24:56, 24:56] = True
    (job,) = open_jobs(read_pictures(pixels), ["a red ball"], [mask], 1, torch.Generator().manual_seed(0))
    return painter, [CropJob(job, 0, pixels, mask, (SIDE, SIDE), "a red ball", 0.8, 0)]
