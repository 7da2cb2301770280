"""Refining against plain diffusers on the full frame: same components, same executed steps, same seeds, one run.

    python -m benchmarks.run --only refine

The alternative is what people do today: inpaint the whole frame under an all-white mask, then image-to-image. What
each way does to good and to bad pixels stands beside its time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionXLInpaintPipeline
from PIL import Image

from benchmarks.measure import Times, Work, compared, interleave, peak
from benchmarks.part import Curve, Part, Table
from grefine import GRefinePipeline
from grefine.refine.settings import RefineConfig
from grefine.types import QualityMap

SDXL = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
STEPS, DELTA, STRENGTH, SCALE, SEED = (10, 10), 0.1, 0.7, 2.0, 0
PROMPT = "a red ball on green grass"
WORKING = 64
SHARES = (0.05, 0.2, 0.4)
COUNTS = (1, RefineConfig().batch_size)
"""Pictures per call: one, and as many as a pipeline denoises at once unless told otherwise."""
AGAINST = "diffusers, full frame"
CLEAN, EXACT, PAPER = 20.0, 2.5, 1.4
SETTINGS = {
    "use_aq": False, "guard": False, "gate": 0.5, "mask_threshold": 0.5, "max_area": 1.0,
    "dilate": 0.0, "delta": DELTA, "max_upscale": 1.0,
}  # fmt: skip
"""Whatever the maps find, the given heat map decides, so that cost is measured against area and nothing else."""


def load() -> GRefinePipeline:
    """Load the bundled pipeline."""
    pipe = GRefinePipeline.from_pretrained("tiny")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(side: int, number: int = 0) -> Image.Image:
    """Draw something smooth."""
    rng = np.random.default_rng(SEED + number)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def square(share: float, side: int) -> np.ndarray:
    """Return a mask with one square of the given share."""
    mask = np.zeros((side, side), bool)
    edge = round(side * share**0.5)
    mask[:edge, :edge] = True
    return mask


def heatmap(mask: np.ndarray) -> Callable[[list[Image.Image]], list[QualityMap]]:
    """Return a provider that calls the masked place bad."""
    values = np.where(mask, np.float32(0.1), np.float32(1.0))
    return lambda images: [QualityMap(values, 0.3 if mask.any() else 0.95) for _ in images]


def full_frame(pipe: GRefinePipeline) -> Callable[..., list[Image.Image]]:
    """Return the alternative: both stages on the full frames, the executed steps of ours, no maps, no crops."""
    inner = StableDiffusionXLInpaintPipeline(**{name: getattr(pipe, name) for name in SDXL}, add_watermarker=False)
    inner.set_progress_bar_config(disable=True)

    def run(images: list[Image.Image], prompt: str = PROMPT, seed: int = SEED) -> list[Image.Image]:
        white = [Image.new("L", image.size, 255) for image in images]
        width, height = images[0].size
        for steps, strength, scale in ((STEPS[0], STRENGTH, SCALE), (STEPS[1], DELTA, 1.0)):
            found = inner(
                prompt=[prompt] * len(images),
                image=images,
                mask_image=white,
                height=height,
                width=width,
                strength=strength,
                num_inference_steps=math.ceil(steps / strength - 1e-9),
                guidance_scale=scale,
                generator=[torch.Generator().manual_seed(seed + number) for number in range(len(images))],
            )
            images = list(found.images)  # pyright: ignore[reportAttributeAccessIssue]
        return images

    return run


def refined(
    pipe: GRefinePipeline,
    images: list[Image.Image],
    share: float,
    preserve: str,
    steps: int | None = sum(STEPS),
    **options: Any,
) -> Any:
    """Refine pictures of which so much is bad; without `steps` in as many as the pipeline takes by itself."""
    return pipe(
        prompt=[PROMPT] * len(images),
        image=images,
        config=SETTINGS,
        quality_map=heatmap(square(share, images[0].width)),
        strength=STRENGTH,
        guidance_scale=SCALE,
        restorer="inpaint",
        preserve=preserve,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(SEED),
        force=True,
        **options,
    )


def looked(pipe: GRefinePipeline, images: list[Image.Image]) -> Any:
    """Give pictures that the pipeline's own maps pass: they look, and nothing else is to be done."""
    settings = {"gate": 0.0, "use_aq": False}
    seeded = torch.Generator().manual_seed(SEED)
    return pipe(prompt=[PROMPT] * len(images), image=images, config=settings, force=True, generator=seeded)


def cost_by_area(
    pipe: GRefinePipeline, side: int, rounds: int, count: int = 1, shares: tuple[float, ...] = SHARES
) -> tuple[list[dict[str, Any]], Curve]:
    """Time one call with `count` pictures of one size, and with more and more bad area."""
    images = [picture(side, number) for number in range(count)]
    full = full_frame(pipe)
    last: dict[str, Any] = {}

    def keep(name: str, run: Callable[[], Any]) -> Work:
        return lambda: last.__setitem__(name, run())

    plan = [("clean", 0.0, "exact")] + [(m, share, m) for m in ("exact", "paper") for share in shares]
    runs = {AGAINST: keep(AGAINST, lambda: full(images))}
    for kind, share, mode in plan:
        run = partial(looked, pipe, images) if kind == "clean" else partial(refined, pipe, images, share, mode)
        runs[_label(kind, share)] = keep(_label(kind, share), run)
    times = interleave(runs, rounds)
    before, theirs = pixels(images), pixels(last[AGAINST])
    title = _title(side, count)
    rows, series = [], {"exact": [], "paper": []}
    for kind, share, _ in plan:
        name, bad = _label(kind, share), np.tile(square(share, side), (count, 1))
        facts = {
            "good pixels moved, ours": f"{moved(before, pixels(last[name].images), bad):.4f}",
            "theirs": f"{moved(before, theirs, bad):.4f}",
        }
        target = {"clean": CLEAN, "exact": EXACT, "paper": PAPER}[kind] if share <= 0.2 else None
        rows.append(compared(f"{title}, {name}", times[name], times[AGAINST], AGAINST, target, **facts))
        if kind in series:
            series[kind].append([share, times[name].seconds()])
    levels = {AGAINST: times[AGAINST].seconds()}
    drawing = f"refine_{side}" + (f"_{count}" if count > 1 else "")
    return rows, Curve(drawing, title, "share of a picture that is bad", "CPU seconds", series, levels)


def pixels(images: list[Image.Image]) -> np.ndarray:
    """Return the pixels of equally wide pictures, one below the other."""
    return np.concatenate([np.asarray(image) for image in images])


def moved(before: np.ndarray, after: np.ndarray, bad: np.ndarray) -> float:
    """Return the root-mean-square change (0..1) of the pixels that are not bad; 0 when there are none."""
    change = (after[~bad].astype(np.float64) - before[~bad]) / 255.0
    return float(np.sqrt(np.mean(change**2))) if change.size else 0.0


def denoiser_calls(pipe: GRefinePipeline) -> Table:
    """Time one call of the denoiser by size and company: what the best possible ratio of the small crops is."""
    rows = []
    for count in COUNTS:
        runs = {}
        for side in (WORKING, 2 * WORKING, 4 * WORKING):
            halves = 2 * count
            noisy, words = torch.zeros(halves, 9, side // 4, side // 4), torch.zeros(halves, 32, 160)
            added = {"text_embeds": torch.zeros(halves, 64), "time_ids": torch.zeros(halves, 6)}
            runs[str(side)] = torch.no_grad()(
                partial(pipe.unet, noisy, torch.tensor(500), words, added_cond_kwargs=added)
            )
        times = interleave(runs, 3)
        first = times[str(WORKING)].seconds()
        for side, found in times.items():
            areas = (int(side) // WORKING) ** 2
            rows.append([f"{side}²", count, areas, found.seconds() / first, found.seconds()])
    head = ["picture", "at once", "times the pixels", "times the cost", "CPU s"]
    return Table("Single guided calls of the tiny UNet", head, rows)


def quality(pipe: GRefinePipeline, count: int) -> Table:
    """Let the toy world's judges, which no pipeline loads, say what each way did to scenes whose truth is known."""
    from lab.bench.cases import Cases, Runner, clean_cases, damaged_cases, misaligned_cases
    from lab.bench.verdicts import judge
    from lab.bench_judges.networks import Judges, tie_bands
    from lab.world.pictures import tensor_of

    wrong = Cases.cat([damaged_cases(count, 1), misaligned_cases("colour", count, 2)])
    cases = Cases.cat([clean_cases(count, 3), wrong])
    judges = Judges.load()
    bands = tie_bands(judges, 64)
    full = full_frame(pipe)
    ours = Runner(pipe, SEED, batch=1)
    ways = {
        AGAINST: lambda: tensor_of(
            [full([p], t, SEED + i)[0] for i, (p, t) in enumerate(zip(cases.pictures, cases.prompts, strict=True))]
        ),
        "ours, paper": lambda: ours("paper", cases).images,
        "ours, exact": lambda: ours("exact", cases, config={"preserve": "exact"}).images,
        "ours, exact, true mask, no guard": lambda: (
            ours("oracle", cases, config={"preserve": "exact"}, masks=cases.masks, guard=False).images
        ),
    }
    rows = []
    for name, way in ways.items():
        start = time.process_time()
        after = way()
        spent = (time.process_time() - start) / len(cases)
        verdicts = judge(judges, bands, cases, after)
        good, bad = verdicts[:count], verdicts[count:]
        outside = (after - cases.images).square().mean(1)[~cases.masks].mean().sqrt()
        rows.append(
            [
                name,
                _share(v.worse for v in good),
                _share(v.improved for v in bad),
                _share(v.worse for v in bad),
                float(outside),
                spent,
            ]
        )
    head = [
        "way",
        "good scenes harmed",
        "bad scenes improved",
        "bad scenes made worse",
        "moved outside the true damage",
        "CPU s",
    ]
    return Table(
        f"Quality on {count} good, {count} damaged and {count} wrongly coloured scenes of the toy world", head, rows
    )


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Measure refining against the full frame."""
    del device
    pipe = load()
    rows, curves = [], []
    several = COUNTS[-1]
    plan = ((128, 1, 2, SHARES), (128, several, 1, (0.2,)), (256, 1, 1, (0.2,)))
    if not quick:
        plan = (
            (128, 1, 5, SHARES),
            (128, several, 5, SHARES),
            (256, 1, 3, SHARES),
        )
    for side, count, rounds, shares in plan:
        found, curve = cost_by_area(pipe, side, rounds, count, shares)
        rows += found
        curves.append(curve)
    memory = [
        [name, round(cost["ready"]), round(cost["peak"] - cost["ready"])]
        for name, cost in ((case, peak("benchmarks.refine", case)) for case in ([] if quick else CASES))
    ]
    tables = [denoiser_calls(pipe), quality(pipe, 2 if quick else 16)]
    if memory:
        tables += [
            Table(
                "Peak memory of one picture of 256² in a process of its own", ["way", "MiB ready", "MiB more"], memory
            )
        ]
    return Part(
        "refine",
        "Refining",
        "The bundled pipeline against diffusers on the full frame (inpaint under a white mask, then image-to-image "
        "at strength 0.1), same components, seeds and executed steps (10 + 10). The bad area is one square that a "
        "given heat map names; several pictures at once are one batch in both ways; *clean* is looked at by the "
        "pipeline's own maps. What moved is the root mean square over the good pixels, 1 = black to white.",
        rows,
        tables,
        curves,
        why_missed(rows),
    )


def why_missed(rows: list[dict[str, Any]]) -> list[str]:
    """Explain a missed ratio, if one is."""
    notes = [
        "A crop is as large as the working area, so up to 20 % of a picture of four working areas is one crop: a "
        "quarter of the full frame's pixels in both stages of `exact`, and in stage 1 of `paper`."
    ]
    missed = [row["what"] for row in rows if row["met"] is False]
    small = [what for what in missed if what.startswith(f"{_title(2 * WORKING, 1)}, exact")]
    other = [what for what in missed if what not in small]
    if small:
        notes.append(
            f"Missed: {'; '.join(small)}. About two thirds of a call of this tiny network on one crop are fixed "
            "cost: a quarter of the pixels is far from a quarter of the time (the table of single "
            "calls is the most that can be reached). Several pictures at once share that cost; larger pictures, and "
            "SDXL's width in the next part, hardly have it."
        )
    if other:
        notes.append(f"Missed without a known reason: {'; '.join(other)}.")
    return notes


def _title(side: int, count: int) -> str:
    areas = (side / WORKING) ** 2
    return f"{side}² ({areas:g} working areas)" + (f", {count} pictures at once" if count > 1 else "")


def _label(kind: str, share: float) -> str:
    return kind if kind == "clean" else f"{kind}, {100 * share:.0f} % bad"


def _share(hits: Any) -> str:
    found = list(hits)
    return f"{sum(found)} of {len(found)}"


CASES: dict[str, Callable[[], Work]] = {
    AGAINST: lambda: partial(full_frame(load()), [picture(256)]),
    "ours, exact, 20 % bad": lambda: partial(refined, load(), [picture(256)], 0.2, "exact"),
    "ours, paper, 20 % bad": lambda: partial(refined, load(), [picture(256)], 0.2, "paper"),
}

__all__ = ["CASES", "Times", "part"]
