"""What grows with the work, and how: images, pixels, phrases, regions. Every point runs in a process of its own.

    python -m benchmarks.run --only growth

Time should grow with the work and no faster, memory with the pixels of one picture and with nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Work, peak
from benchmarks.part import Curve, Part, Table, straightness
from benchmarks.refine import PROMPT, SETTINGS, heatmap, load, looked, picture
from benchmarks.vae_memory import row

COLOURS = ("red", "blue", "green", "yellow", "white", "pink")
NOUNS = ("ball", "box", "cone", "star", "heart", "tree", "house", "cat", "ring", "book")
MODULE = "benchmarks.growth"


def folder(images: int) -> Work:
    """Refine a mixed folder."""
    from benchmarks.folder import make_folder
    from grefine import refine_folder
    from grefine.folder.options import FolderOptions

    pipe, options = load(), FolderOptions(batch_size=16, panels=False, report=False, force=True)
    # The folder lives as long as the process that measures it.
    work = Path(tempfile.mkdtemp(prefix="grefine-growth-"))
    make_folder(work / "warm", 4, seed=1)
    refine_folder(work / "warm", work / "warm_out", pipe, options=options)
    make_folder(work / "in", images)
    return lambda: refine_folder(work / "in", work / "out", pipe, options=options)


def clean(side: int) -> Work:
    """Look at a picture that needs nothing."""
    pipe, image = load(), picture(side)
    looked(pipe, [picture(64)])
    return lambda: looked(pipe, [image])


def regions(count: int, side: int = 1024, guard: bool = False, preserve: str = "exact") -> Work:
    """Repair so many separate places of a picture."""
    pipe, image = load(), picture(side)
    mask = places(count, side)
    looked(pipe, [picture(64)])
    return lambda: repaired(pipe, image, mask, guard, preserve)


def phrases(count: int, side: int = 1024) -> Work:
    """Plan under a prompt of so many phrases, none of which the picture shows."""
    pipe, image = load(), picture(side)
    looked(pipe, [picture(64)])
    texts = [f"a {COLOURS[i % 6]} {NOUNS[(i // 6) % 10]}" for i in range(count)]
    return lambda: pipe(
        prompt=", ".join(texts),
        image=image,
        plan_only=True,
        force=True,
        generator=torch.Generator().manual_seed(0),
    )


def specks(count: int, side: int = 2048) -> Work:
    """Plan for a map with so many bad specks, as a noisy judge draws it."""
    pipe, image = load(), picture(side)
    mask = np.zeros((side, side), bool)
    rows = int(np.ceil(count**0.5))
    step = side // rows
    for index in range(count):
        y, x = (index // rows) * step, (index % rows) * step
        mask[y : y + 3, x : x + 3] = True
    settings = SETTINGS | {"min_region_area": 0.0}
    return lambda: pipe(
        prompt=PROMPT, image=image, config=settings, quality_map=heatmap(mask), plan_only=True, force=True
    )


def places(count: int, side: int) -> np.ndarray:
    """Return a mask with so many squares of 40 pixels, too far apart to share crops."""
    mask = np.zeros((side, side), bool)
    rows = int(np.ceil(count**0.5))
    for index in range(count):
        y, x = ((at * side) // rows + (side // rows - 40) // 2 for at in divmod(index, rows))
        mask[y : y + 40, x : x + 40] = True
    return mask


def repaired(pipe: Any, image: Any, mask: np.ndarray, guard: bool, preserve: str = "exact") -> Any:
    """Repair the marked places of a picture."""
    out = pipe(
        prompt=PROMPT,
        image=image,
        config=SETTINGS | {"max_regions": 64, "min_region_area": 0.0, "guard": guard},
        quality_map=heatmap(mask),
        preserve=preserve,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(0),
        force=True,
    )
    if not out.results[0].plan.regions:
        raise RuntimeError("nothing was repaired, so nothing was measured")
    return out


CASES: dict[str, Callable[..., Work]] = {
    "folder": folder,
    "clean": clean,
    "regions": regions,
    "phrases": phrases,
    "specks": specks,
}


def sweep(title: str, case: str, work: str, values: list[int], weight: Callable[[int], float], **fixed: Any) -> Sweep:
    """Measure one case at growing work."""
    found = [[weight(value), peak(MODULE, case, **{work: value}, **fixed)] for value in values]
    return Sweep(title, values, found)


class Sweep:
    """Costs of one case at growing work."""

    def __init__(self, title: str, values: list[int], found: list[list[Any]]) -> None:
        self.title, self.values = title, values
        self.seconds = [[amount, cost["cpu"]] for amount, cost in found]
        self.memory = [[amount, max(cost["peak"] - cost["ready"], 1.0)] for amount, cost in found]

    def row(self) -> list[Any]:
        """Return what the page says of it."""
        ends = f"{self.values[0]:,} to {self.values[-1]:,}"
        times = " / ".join(f"{seconds:.2f}" for _, seconds in self.seconds)
        memory = " / ".join(f"{mib:.0f}" for _, mib in self.memory)
        return [self.title, ends, times, straightness(self.seconds), memory, straightness(self.memory)]


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Measure all growth."""
    del device
    megapixels = lambda side: side * side / 2**20  # noqa: E731 - a unit, not a function of note
    sides = [256, 1024] if quick else [256, 1024, 2048]
    counts = [4, 20] if quick else [1, 5, 20]
    sweeps = [
        sweep("images in a folder", "folder", "images", [8, 32] if quick else [10, 100], float),
        sweep("pixels, nothing to repair (side)", "clean", "side", sides, megapixels),
        sweep("pixels, one place repaired, exact (side)", "regions", "side", sides, megapixels, count=1),
        sweep("phrases of the prompt, 1024²", "phrases", "count", [4, 60] if quick else [1, 30, 60], float),
        sweep("repaired regions of 1024²", "regions", "count", counts, float),
        sweep("the same, with the guard", "regions", "count", counts, float, guard=True),
    ]
    if not quick:
        paper = {"count": 1, "preserve": "paper"}
        restored = "pixels, restored everywhere (paper; side)"
        sweeps += [
            sweep(restored, "regions", "side", sides[:2], megapixels, **paper),
            sweep("bad specks of 2048²", "specks", "count", [10, 1000], float),
        ]
    head = ["work", "from, to", "CPU s", "power of time", "MiB more", "power of memory"]
    decoded = [row(dtype, side) for dtype in ("fp32", "bf16")[: 1 if quick else 2] for side in (512, 1024)]
    guarded = {"without guard": sweeps[4].seconds, "with guard": sweeps[5].seconds}
    return Part(
        "growth",
        "What grows with the work",
        "Time and memory of the bundled pipeline, every point in a process of its own. The power says how cost grows "
        "between the two largest works: 1 is in proportion, 0 is not at all.",
        tables=[
            Table("Growth", head, [one.row() for one in sweeps]),
            Table(
                "Memory to decode one crop with SDXL's VAE at a quarter of its width, on the CPU",
                ["crop", "MiB measured", "MiB that `explain` says", "said / measured"],
                decoded,
            ),
        ],
        curves=[
            Curve("growth_regions", "A picture of 1024², 2 + 2 steps", "repaired regions", "CPU seconds", guarded)
        ],
    )
