"""Options that make the denoiser itself faster: channels_last, and compiled blocks with crop sizes that repeat.

    python -m benchmarks.run --only compiled

Compiling pays only where few sizes occur: crops are brought to squares of the working size, so how many sizes that
leaves is counted over random places in random pictures.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Row, Work, compared, interleave
from benchmarks.part import RESULTS, Part, Table
from benchmarks.refine import load
from grefine.refine.regions import crop_box, working_size

PLAIN = "the same UNet as it is loaded"
FULL_SIZE = (
    "At SDXL's own shape, one round beside other work, no option moves a step on a CPU by more than four percent, and "
    "a compiled UNet's first call of another crop size costs about half a step more: none is turned on by itself."
)


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Measure one guided step of a 64² crop under every option."""
    del device
    rows, notes = [], []
    plain = step(load())
    last = load()
    last.unet.to(memory_format=torch.channels_last)
    times = interleave({"plain": plain, "channels_last": step(last)}, 5)
    rows.append(compared("one guided step, channels_last", times["channels_last"], times["plain"], PLAIN))
    if quick:
        notes.append("Quick runs do not compile.")
    elif shutil.which("g++") is None and shutil.which("clang++") is None:
        notes.append("Compiling for a CPU needs a C++ compiler, and this machine has none: that row is owed.")
    else:
        row, note = compiled_row(plain)
        rows.append(row)
        notes.append(note)
    whole = full_size()
    if whole:
        notes.append(FULL_SIZE)
    return Part(
        "compiled",
        "Options of the denoiser",
        "One guided UNet step of the bundled pipeline on a crop of 64², both halves in one call.",
        rows,
        [*whole, sizes()],
        notes=notes,
    )


def compiled_row(plain: Work) -> tuple[Row, str]:
    """Compile the repeated blocks and measure what that costs and gives."""
    pipe = load()
    pipe.unet.compile_repeated_blocks(dynamic=False)
    run = step(pipe)
    start = time.process_time()
    run()
    spent = time.process_time() - start
    times = interleave({"compiled": run, "plain": plain}, 5)
    saved = times["plain"].seconds() - times["compiled"].seconds()
    after = f"is earned back after {spent / saved:.0f} steps" if saved > 0 else "is never earned back on this machine"
    row = compared("one guided step, compile_repeated_blocks", times["compiled"], times["plain"], PLAIN)
    return (
        row,
        f"The first compiled step took {spent:.0f} CPU s, which {after}; each further crop size costs that again.",
    )


def step(pipe: Any) -> Work:
    """Return one guided step of the pipeline's UNet."""
    unet = pipe.unet
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 9, 16, 16, generator=generator)
    words = torch.randn(2, 32, unet.config.cross_attention_dim, generator=generator)
    pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    added = {"text_embeds": torch.randn(2, pooled, generator=generator), "time_ids": torch.full((2, 6), 64.0)}

    @torch.no_grad()
    def run() -> Any:
        return unet(noisy, torch.tensor(500), words, added_cond_kwargs=added, return_dict=False)

    return run


def full_size() -> list[Table]:
    """Return what was measured of one guided step at SDXL's own shape, by the command in its title; it takes long."""
    stored = RESULTS / "step_full_size.json"
    if not stored.is_file():
        return []
    found = json.loads(stored.read_text(encoding="utf-8"))["step"]
    timed = {name: one["cpu_seconds"] for name, one in found.items() if isinstance(one, dict) and "cpu_seconds" in one}
    plain = timed["as loaded"]
    return [
        Table(
            "One guided step at SDXL's own shape, 1024², bfloat16, one thread (`python -m benchmarks.gpu --device cpu "
            "--width 1 --side 1024 --dtype bfloat16 --rounds 1 --compile --only step`)",
            ["option", "CPU s", "faster"],
            [[name, seconds, f"{plain / seconds:.2f} x"] for name, seconds in timed.items()],
        )
    ]


def sizes(draws: int = 2000) -> Table:
    """Count the sizes at which crops of random places in random pictures are denoised at SDXL's geometry."""
    rng = np.random.default_rng(0)
    found: Counter[tuple[int, int]] = Counter()
    for _ in range(draws):
        height, width = (int(side) for side in rng.integers(768, 2049, 2))
        top, left = int(rng.integers(0, height - 64)), int(rng.integers(0, width - 64))
        tall, wide = int(rng.integers(16, 1024)), int(rng.integers(16, 1024))
        part_ = (left, top, min(left + wide, width), min(top + tall, height))
        x0, y0, x1, y1 = crop_box(part_, (height, width), 0.5, 256, 1024)
        found[working_size(y1 - y0, x1 - x0, 1024, 32)] += 1
    most = found.most_common(1)[0]
    rows = [
        ["pictures and places", draws],
        ["sizes that occur", len(found)],
        [f"share of the most frequent one ({most[0][1]}x{most[0][0]})", most[1] / draws],
        ["share of the five most frequent", sum(count for _, count in found.most_common(5)) / draws],
    ]
    return Table(
        "Sizes at which SDXL would denoise random places of pictures of 768 to 2048 pixels a side",
        ["what", "value"],
        rows,
    )
