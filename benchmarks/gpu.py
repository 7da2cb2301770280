"""Everything that is owed of a GPU, by one command within eight minutes: random weights, results as JSON.

    python -m benchmarks.gpu [--device cuda] [--minutes 8] [--only fp16,judges] [--out FILE]
    python -m benchmarks.gpu --device cpu

At SDXL-inpaint's own geometry and 1024² on a GPU. On a CPU at a tenth of the width and 64², one round and nothing
compiled: that shows that every section comes to its end, not what a GPU takes. What failed or no longer fits into the
minutes stands in the results with the reason. The file is written after each section.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.geometry import Geometry, build, made_on, unet, vae
from benchmarks.measure import interleave, machine, resident_mib
from benchmarks.part import RESULTS
from benchmarks.real import measure, unet_call
from benchmarks.refine import PROMPT, load, looked, picture, refined
from benchmarks.toy_painters import build as build_family
from grefine.errors import GRefineError
from grefine.models.lar_iqa import LARIQA
from grefine.models.mdiqa import MDIQA
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.models.reward import RewardModel
from grefine.refine.vae import decode_latents

Found = dict[str, Any]


def memory_of(run: Callable[[], Any], device: str) -> Found:
    """Run once; return wall seconds and the most memory: of the device, or on a CPU of the process."""
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    run()
    if cuda:
        torch.cuda.synchronize()
    most = torch.cuda.max_memory_allocated() / 2**20 if cuda else resident_mib("VmHWM")
    return {"seconds": round(time.perf_counter() - start, 4), "most_MiB": round(most)}


def refine_section(geometry: Geometry, rounds: int, tune: bool) -> Found:
    """One refine beside the floor and beside diffusers, also with everything on; memory with and without offload."""
    rows, tables, notes = measure(geometry, rounds, tune)
    return {"rows": rows, "tables": [asdict(table) for table in tables], "notes": notes}


def fp16_section(geometry: Geometry, rounds: int, tune: bool) -> Found:
    """A VAE that overflows in half precision: alone, and marked as SDXL's own is, which `decode_latents` heeds."""
    pipe = build(replace(geometry, dtype=torch.float16))
    with torch.no_grad():
        # Random weights stay small; this brings the middle of the decoder beyond the largest number of half precision.
        pipe.vae.decoder.mid_block.resnets[-1].conv2.weight.mul_(1e6)
    cells = geometry.side // 8
    seeded = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, cells, cells, generator=seeded).to(geometry.device, torch.float16)
    found: Found = {}
    for name, marked in (("half alone", False), ("marked for upcasting", True)):
        pipe.vae.register_to_config(force_upcast=marked)
        try:
            with torch.no_grad():
                decoded = decode_latents(pipe.vae, latents)
            found[name] = {"finite": bool(torch.isfinite(decoded).all())}
        except GRefineError as error:
            found[name] = {"finite": False, "said": str(error)}
    run = partial(refined, pipe, [picture(geometry.side)], 0.2, "paper")
    found["one refine in fp16"] = memory_of(run, geometry.device)
    return found


def with_judges(geometry: Geometry) -> Any:
    """Return a pipeline with every judge, at their true sizes or, at a reduced width, those of the bundled one."""
    pipe = build(geometry)
    judges = ("moe_agiqa", "mdiqa", "lar_iqa", "reward")
    if geometry.width < 1:
        small = load()
        made = {name: getattr(small, name) for name in judges}
    else:
        kinds: Sequence[Callable[[], Any]] = (MoEAGIQA, MDIQA, LARIQA, RewardModel)
        with torch.device(geometry.device):
            made = {name: kind().eval().requires_grad_(False) for name, kind in zip(judges, kinds, strict=True)}
    made = {name: part.to(geometry.device) for name, part in made.items() if part is not None}
    pipe.register_modules(**made)
    for name in {"moe_agiqa", "reward"} & set(made):
        made[name].judge_tokenizer = pipe.clip_tokenizer
    return pipe


def judges_section(geometry: Geometry, rounds: int, tune: bool) -> Found:
    """Memory and seconds of each judge and of both maps, and of one refine alone, with guard and with guidance."""
    pipe = with_judges(geometry)
    image = picture(geometry.side)
    found: Found = {"weights_MiB": {n: size for n, part in pipe.components.items() if (size := _mib(part))}}
    for judge in pipe.judges():
        found[f"judge {judge.spec.name}"] = _twice(partial(judge, [image], [PROMPT]), geometry.device)
    found["maps, one look"] = _twice(partial(looked, pipe, [image]), geometry.device)
    ways: dict[str, Found] = {"plain": {}, "guard": {"guard": True}, "guidance": {"guidance": {"sharpness": 1.0}}}
    for name, options in ways.items():
        found[f"refine, {name}"] = _twice(partial(refined, pipe, [image], 0.2, "paper", **options), geometry.device)
    return found


def painters_section(geometry: Geometry, rounds: int, tune: bool) -> Found:
    """Our own UNet and another pipeline of diffusers (SD 1.5 for inpainting) redraw the same place of one picture."""
    pipe, image = build(geometry), picture(geometry.side)
    small, _ = build_family("sd15")
    blocks = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    shape = {"sample_size": geometry.side // 8, "in_channels": 9, "out_channels": 4, "cross_attention_dim": 32}
    channels = tuple(geometry.channels(c) for c in (320, 640, 1280, 1280))
    shape |= {"block_out_channels": channels, "down_block_types": blocks[0], "up_block_types": blocks[1]}
    parts = small.components | {"unet": type(small.unet)(**shape, attention_head_dim=8).eval(), "vae": vae(geometry)}
    other = type(small)(**parts, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    other.to(geometry.device, geometry.dtype)
    found: Found = {"SD 1.5's UNet_MiB": _mib(other.unet)}
    before = np.asarray(image)
    for name, painter in (("own", None), ("StableDiffusionInpaintPipeline", other)):
        results: list[Any] = []
        repaint = partial(refined, pipe, [image], 0.2, "exact", painter=painter)
        found[name] = _twice(lambda run=repaint, kept=results: kept.append(run()), geometry.device)
        after = np.asarray(results[-1].images[0])
        found[name]["moved_share"] = round(float((after != before).any(-1).mean()), 3)
    return found


def step_section(geometry: Geometry, rounds: int, tune: bool) -> Found:
    """One guided step of the UNet under every option, beside the same UNet as it is loaded."""
    with made_on(geometry):
        net = unet(geometry).eval().requires_grad_(False)
    runs, found = unet_call(net, 2, geometry.side // 8, geometry), {}

    def timed(name: str) -> None:
        with torch.no_grad():
            runs()  # compiles, and lets the libraries choose
            spent = interleave({name: runs}, rounds, device=geometry.device, least=0.0)[name]
        found[name] = {"seconds": spent.seconds("wall"), "cpu_seconds": spent.seconds(), "rounds": rounds}

    timed("as loaded")
    net.to(memory_format=torch.channels_last)
    timed("channels_last")
    net.fuse_qkv_projections()
    timed("channels_last, fused QKV")
    net.unfuse_qkv_projections()
    if tune:
        start = time.perf_counter()
        net.compile_repeated_blocks(dynamic=False)
        timed("channels_last, compiled blocks")
        found["compiling_seconds"] = round(time.perf_counter() - start, 1)
        other = unet_call(net, 2, geometry.side // 8 + 16, geometry)
        start = time.perf_counter()
        with torch.no_grad():
            other()
        found["first call of another crop size, compiled"] = {"seconds": round(time.perf_counter() - start, 2)}
    return found


SECTIONS: dict[str, Callable[[Geometry, int, bool], Found]] = {
    "fp16": fp16_section,
    "judges": judges_section,
    "painters": painters_section,
    "step": step_section,
    "refine": refine_section,
}
"""In this order: the last one takes longest, so that it is what a short time cuts off."""


def _mib(part: Any) -> int:
    if not isinstance(part, torch.nn.Module):
        return 0
    return round(sum(p.numel() * p.element_size() for p in part.parameters()) / 2**20)


def _twice(run: Callable[[], Any], device: str) -> Found:
    """Measure the second of two runs."""
    run()
    return memory_of(run, device)


def run(geometry: Geometry, names: Sequence[str], minutes: float, rounds: int, tune: bool, out: Path) -> Found:
    """Measure one section after the other while there is time, and write what is known after each."""
    done: Found = {"about": machine(geometry.device), "geometry": {"width": geometry.width, "side": geometry.side}}
    done["geometry"] |= {"device": geometry.device, "dtype": str(geometry.dtype).removeprefix("torch.")}
    start = time.perf_counter()
    for name in names:
        began = time.perf_counter() - start
        if began > 60 * minutes:
            done[name] = {"not measured": f"the {minutes:g} minutes were over"}
        else:
            try:
                done[name] = SECTIONS[name](geometry, rounds, tune)
            except Exception as error:  # noqa: BLE001 - one section's fault must not cost the others their minutes
                done[name] = {"failed": f"{type(error).__name__}: {error}"[:600]}
            done[name]["section_seconds"] = round(time.perf_counter() - start - began, 1)
        if geometry.device.startswith("cuda"):
            torch.cuda.empty_cache()
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(done[name])[:300]}", flush=True)
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the command line asks for; 1 if a section failed or had no time."""
    from benchmarks.run import check_device

    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--width", type=float, help="share of SDXL's channels: 1 on a GPU, 0.1 on a CPU")
    parser.add_argument("--side", type=int, help="working side in pixels: 1024 on a GPU, 64 on a CPU")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), help="bfloat16 on a GPU, float32 on a CPU")
    parser.add_argument("--minutes", type=float, default=8.0, help="no section begins after this")
    parser.add_argument("--rounds", type=int, help="3 on a GPU, 1 on a CPU")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="on a GPU, unless told otherwise")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--out", type=Path, help="results/gpu.json, on a CPU results/gpu_on_cpu.json")
    given = parser.parse_args(arguments)
    names = given.only.split(",")
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}: choose {', '.join(SECTIONS)}")
    cuda = given.device.startswith("cuda")
    dtype = getattr(torch, given.dtype or ("bfloat16" if cuda else "float32"))
    width, side = given.width or (1.0 if cuda else 0.1), given.side or (1024 if cuda else 64)
    rounds, out = (
        given.rounds or (3 if cuda else 1),
        given.out or RESULTS / ("gpu.json" if cuda else "gpu_on_cpu.json"),
    )
    tune = cuda if given.compile is None else given.compile
    torch.set_num_threads(1)
    try:
        check_device(given.device)
    except GRefineError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 2
    logging.getLogger("diffusers").setLevel(logging.ERROR)  # it warns at each cast of a VAE
    geometry = Geometry(width, side, given.device, dtype)
    done = run(geometry, names, given.minutes, rounds, tune, out)
    print(out)
    return 1 if any({"failed", "not measured"} & set(done[name]) for name in names) else 0


if __name__ == "__main__":
    sys.exit(main())
