"""Real sizes with random weights: one refine against the floor of its arithmetic and against diffusers.

    python -m benchmarks.real [--device cuda] [--width 1] [--side 1024] [--rounds 3] [--no-compile]

On a GPU SDXL-inpaint's own geometry in bfloat16; on a CPU the same script at a tenth of the width and 256².
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.geometry import Geometry, build, counted_refine, free_memory
from benchmarks.measure import Row, compared, interleave
from benchmarks.page import compared_table, number
from benchmarks.part import Part, Table
from benchmarks.refine import full_frame, looked, picture, refined
from grefine.errors import GRefineError

STOCK, TUNED = "diffusers, full frame", "diffusers, everything turned on"
AIM = 0.5
"""Share of the floor's speed that the denoising loop should reach."""
OFFLOADED = 12.0
"""GB that one refine may take with offloading."""


def measure(geometry: Geometry, rounds: int, tune: bool) -> tuple[list[Row], list[Table], list[str]]:
    """Measure one geometry; `tune` compiles the UNet's repeated blocks for the second half."""
    geometry.check_memory(free_memory(geometry.device))
    pipe = build(geometry)
    clock = "wall" if geometry.device.startswith("cuda") else "cpu"
    limits = device_limits(geometry, clock)
    side = geometry.side
    small, large = [picture(side)], [picture(2 * side)]
    full = full_frame(pipe)
    spans: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
        (f"clean, {side}²", partial(looked, pipe, small), partial(full, small)),
        (f"paper, {side}², 20 % bad", partial(refined, pipe, small, 0.2, "paper", None), partial(full, small)),
        (f"paper in 20 steps, {side}², 20 % bad", partial(refined, pipe, small, 0.2, "paper"), partial(full, small)),
        (f"exact, {2 * side}², 20 % bad", partial(refined, pipe, large, 0.2, "exact"), partial(full, large)),
    ]
    rows = [_row(*span, STOCK, geometry, rounds, clock, limits) for span in spans]
    tables = [loop_table(pipe, geometry, clock, limits)]
    notes: list[str] = []
    if tune:
        spent = turn_everything_on(pipe, spans[1][1])
        notes.append(f"Turning everything on cost {spent:.0f} s at the first call, most of it compiling.")
        rows += [_row(*span, TUNED, geometry, rounds, clock, limits) for span in (spans[1], spans[-1])]
    if geometry.device.startswith("cuda"):
        tables.append(memory_table(geometry, pipe))
    return rows, tables, notes


def turn_everything_on(pipe: Any, first: Callable[[], Any]) -> float:
    """Fuse QKV, use channels_last, keep the VAE in its precision, compile repeated blocks; both sides share the "
    "UNet."""
    start = time.perf_counter()
    pipe.unet.fuse_qkv_projections()
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    pipe.vae.register_to_config(force_upcast=False)
    pipe.unet.compile_repeated_blocks(dynamic=False)
    first()
    return time.perf_counter() - start


def device_limits(geometry: Geometry, clock: str) -> tuple[float, float]:
    """Return the FLOP/s of a large matrix product and the bytes/s of a copy, both measured here and now."""
    cuda = geometry.device.startswith("cuda")
    size = 8192 if cuda else 1024
    a = torch.randn(size, size, device=geometry.device, dtype=geometry.dtype)
    big = torch.empty(2**30 if cuda else 2**27, device=geometry.device, dtype=torch.uint8)
    ways = {"product": lambda: a @ a, "copy": lambda: big.clone()}
    times = interleave(ways, 5, device=geometry.device)
    return 2.0 * size**3 / times["product"].seconds(clock), 2.0 * big.numel() / times["copy"].seconds(clock)


def loop_table(pipe: Any, geometry: Geometry, clock: str, limits: tuple[float, float]) -> Table:
    """Time the denoiser alone: 10 guided and 10 plain calls at the working size, beside their floor."""
    cells, rows = geometry.side // 8, []
    weights = sum(p.numel() * p.element_size() for p in pipe.unet.parameters())
    total, floors = 0.0, 0.0
    for name, batch in (("guided (both halves in one call)", 2), ("plain", 1)):
        run = unet_call(pipe.unet, batch, cells, geometry)
        with torch.no_grad():
            flops = _flops(run)
            seconds = interleave({name: run}, 5, device=geometry.device)[name].seconds(clock)
        floor = max(flops / limits[0], weights / limits[1])
        total, floors = total + 10 * seconds, floors + 10 * floor
        rows.append([name, flops / 1e9, floor, seconds, f"{floor / seconds:.0%}"])
    rows.append(["10 guided + 10 plain", "", floors, total, f"{floors / total:.0%}"])
    title = (
        f"The denoiser at {geometry.side}², width {geometry.width:g}; floor = counted work at this device's "
        f"{limits[0] / 1e9:.3g} GFLOP/s (a large matrix product), or weights read once at {limits[1] / 1e9:.3g} GB/s"
    )
    return Table(title, ["call", "GFLOP", "floor s", "seconds", f"share of the floor's speed (aim {AIM:.0%})"], rows)


def memory_table(geometry: Geometry, pipe: Any) -> Table:
    """Measure the device memory of one refine with the parts on the device, and with offloading."""
    images, rows = [picture(geometry.side)], []
    for name in ("on the device", "enable_model_cpu_offload()"):
        if name != "on the device":
            pipe.enable_model_cpu_offload(device=geometry.device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        refined(pipe, images, 0.2, "paper")
        rows.append([name, torch.cuda.max_memory_allocated() / 1e9, OFFLOADED if "offload" in name else ""])
    return Table("Device memory of one refine", ["parts", "GB at most", "aim"], rows)


def counted_table() -> Table:
    """Count what SDXL's full width takes, whatever device is here."""
    crop, full = counted_refine(1024), counted_refine(2048)
    rows = [
        ["full frame of 1024², or crops of one working area", crop / 1e12, crop / 790e12],
        ["full frame of 2048²", full / 1e12, full / 790e12],
        ["their quotient: what `exact` saves at 2048² and up to 20 % bad", full / crop, ""],
    ]
    head = ["10 guided + 10 plain steps with VAE", "TFLOP", "s at 790 TFLOP/s"]
    return Table("Counted at SDXL-inpaint's full width on the meta device", head, rows)


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Measure what this machine can: the real size on a GPU, a tenth of the width on a CPU."""
    cuda = device.startswith("cuda")
    geometry = Geometry(1.0, 1024, device, torch.bfloat16) if cuda else Geometry(0.1, 256)
    rows, tables, notes = measure(geometry, 1 if quick else 3, tune=not quick)
    if not cuda:
        notes.append(
            "**The GPU numbers are owed**: no GPU was at hand when this page was made. This is the same script at a "
            "tenth "
            "of SDXL's width and 256² on a CPU, in float32; memory with and without offloading, bfloat16 and the "
            "share "
            "of the floor at full width are measured by `python -m benchmarks.gpu`, with fp16, judges, guidance, two "
            "painters and the options of one step beside them (eight minutes; so far run only on a CPU, at a tenth of "
            "the width and 64² by `--device cpu`; every part came to its end, in 50 CPU seconds: "
            "`benchmarks/results/gpu_on_cpu.json`)."
        )
    if quick:
        notes.append("Quick runs do not compile, so nothing stands against diffusers with everything turned on.")
    return Part(
        "real",
        "Real sizes, random weights",
        f"SDXL-inpaint's geometry at width {geometry.width:g}, working at {geometry.side}², 10 + 10 executed steps. "
        "`paper` takes 10 + 2 by itself: more of them in the last tenth of the noise change nothing that a judge "
        "sees, and who calls diffusers may choose so, too.",
        rows,
        [*tables, counted_table()],
        notes=notes,
    )


def _row(
    what: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    against: str,
    geometry: Geometry,
    rounds: int,
    clock: str,
    limits: tuple[float, float],
) -> Row:
    times = interleave({"ours": ours, "theirs": theirs}, rounds, warm=1, device=geometry.device, least=0.0)
    floor = _flops(ours) / limits[0]
    target = {"clean": 20.0, "exact": 2.5, "paper": 1.3}.get(what.split(",")[0])
    facts = {"ours' floor s": floor, "floor's speed reached": f"{floor / times['ours'].seconds(clock):.0%}"}
    return compared(what, times["ours"], times["theirs"], against, target, clock, **facts)


def unet_call(unet: Any, batch: int, cells: int, geometry: Geometry) -> Callable[[], Any]:
    """Return one call of a UNet with random inputs."""
    place = {"device": geometry.device, "dtype": geometry.dtype}
    noisy = torch.randn(batch, 9, cells, cells, **place)
    words = torch.randn(batch, 77, unet.config.cross_attention_dim, **place)
    pooled = unet.config.projection_class_embeddings_input_dim - 6 * 256
    added = {"text_embeds": torch.randn(batch, pooled, **place), "time_ids": torch.zeros(batch, 6, **place)}
    time_ = torch.tensor(500, device=geometry.device)
    return partial(unet, noisy, time_, words, added_cond_kwargs=added, return_dict=False)


def _flops(run: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def main() -> int:
    """Measure the geometry that the command line asks for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=float, help="share of SDXL's channels: 1 on a GPU, 0.1 on a CPU")
    parser.add_argument("--side", type=int, help="working side in pixels: 1024 on a GPU, 256 on a CPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compile", action="store_true")
    given = parser.parse_args()
    from benchmarks.run import check_device

    torch.set_num_threads(1)
    try:
        check_device(given.device)
        cuda = given.device.startswith("cuda")
        geometry = Geometry(
            given.width or (1.0 if cuda else 0.1),
            given.side or (1024 if cuda else 256),
            given.device,
            torch.bfloat16 if cuda else torch.float32,
        )
        rows, tables, notes = measure(geometry, given.rounds, not given.no_compile)
    except GRefineError as error:
        print(f"benchmarks.real: {error}", file=sys.stderr)
        return 2
    print("\n".join(compared_table(rows)))
    for table in [*tables, counted_table()]:
        print(f"\n{table.title}\n{table.head}")
        print("\n".join(str([number(cell) for cell in row]) for row in table.rows))
    print("\n".join(notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
