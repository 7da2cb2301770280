"""Refining against plain diffusers on the full frame: same components, same executed steps, same seeds, one run.

    python benchmarks/refine.py [--pipeline tiny|random] [--side 128] [--repeats 3] [--out benchmarks/results]

The baseline is what people do today: inpaint the whole frame under an all-white mask, then image-to-image. What each
way does to the good pixels stands beside its time. CPU time of this process.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionXLInpaintPipeline
from PIL import Image

from grefine import GRefinePipeline
from grefine.refine.composite import change_outside
from grefine.types import QualityMap

SDXL = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
STEPS, DELTA, STRENGTH, SEED = (10, 10), 0.1, 0.7, 0
TARGETS = {"clean": 20.0, "exact, 20 % bad": 2.5, "paper, 20 % bad": 1.4}


def load(name: str) -> GRefinePipeline:
    if name == "random":
        sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
        from components import pipeline

        return pipeline()
    pipe = GRefinePipeline.from_pretrained(name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(side: int) -> Image.Image:
    rng = np.random.default_rng(SEED)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def heatmap(share: float, side: int) -> Any:
    """A map with one bad square of the given share, so that cost is measured against area and nothing else."""
    edge = round(side * share**0.5)

    def draw(images: list[Image.Image]) -> list[QualityMap]:
        values = np.ones((side, side), np.float32)
        values[:edge, :edge] = 0.1
        return [QualityMap(values, 0.95 if edge == 0 else 0.3) for _ in images]

    return draw


def baseline(pipe: GRefinePipeline, image: Image.Image) -> Image.Image:
    """Inpaint the full frame, then restore it mildly: the executed steps of both stages, no maps, no crops."""
    inner = StableDiffusionXLInpaintPipeline(**{n: getattr(pipe, n) for n in SDXL}, add_watermarker=False)
    inner.set_progress_bar_config(disable=True)
    white = Image.new("L", image.size, 255)
    for steps, strength, scale in ((STEPS[0], STRENGTH, 2.5), (STEPS[1], DELTA, 1.0)):
        image = inner(
            prompt="a red ball on green grass",
            image=image,
            mask_image=white,
            height=image.height,
            width=image.width,
            strength=strength,
            num_inference_steps=int(np.ceil(steps / strength - 1e-9)),
            guidance_scale=scale,
            generator=torch.Generator().manual_seed(SEED),
        ).images[0]
    return image


def refined(pipe: GRefinePipeline, image: Image.Image, share: float, preserve: str) -> Any:
    return pipe(
        prompt="a red ball on green grass",
        image=image,
        config={
            "use_aq": False,
            "guard": False,
            "p_gate": 0.5,
            "worst_gate": 0.0,
            "mask_threshold": 0.5,
            "max_area": 1.0,
            "dilate": 0.0,
            "max_change": 1.0,
            "delta": DELTA,
            "max_upscale": 1.0,
        },
        quality_map=heatmap(share, image.width),
        strength=STRENGTH,
        guidance_scale=2.5,
        restorer="inpaint",
        preserve=preserve,
        num_inference_steps=sum(STEPS),
        generator=torch.Generator().manual_seed(SEED),
        force=True,
    )


def timed(run: Any, repeats: int) -> tuple[float, Any]:
    run()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        spent.append(time.process_time() - start)
    return float(np.median(spent)), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", default="tiny")
    parser.add_argument("--side", type=int, default=128, help="picture side; twice the working side is four times it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    pipe, image = load(arguments.pipeline), picture(arguments.side)
    before = np.asarray(image)
    cost, full = timed(lambda: baseline(pipe, image), arguments.repeats)
    nothing = np.zeros(before.shape[:2], bool)
    good = np.ones(before.shape[:2], bool)
    edge = round(arguments.side * 0.2**0.5)
    good[:edge, :edge] = False
    rows = [
        {
            "row": "diffusers, full frame",
            "bad area": 0.2,
            "seconds": cost,
            "faster": 1.0,
            "change of good pixels": change_outside(before, np.asarray(full), ~good),
        }
    ]
    plan = [("clean", 0.0, "exact")]
    plan += [
        (f"{mode}, {share:.0%} bad".replace("%", " %"), share, mode)
        for mode in ("exact", "paper")
        for share in (0.05, 0.1, 0.2, 0.4)
    ]
    for name, share, mode in plan:
        seconds, out = timed(lambda share=share, mode=mode: refined(pipe, image, share, mode), arguments.repeats)
        mask = out.results[0].plan.mask if out.results[0].plan.regions else nothing
        rows.append(
            {
                "row": name,
                "bad area": share,
                "seconds": seconds,
                "faster": cost / seconds,
                "change of good pixels": change_outside(before, np.asarray(out.images[0]), mask),
                "target": TARGETS.get(name),
            }
        )
    write(arguments, rows)


def write(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    head = {"pipeline": arguments.pipeline, "side": arguments.side, "threads": torch.get_num_threads(), "steps": STEPS}
    (arguments.out / "refine.json").write_text(json.dumps(head | {"rows": rows}, indent=1) + "\n")
    lines = [
        "| row | CPU seconds | times faster | target | change of good pixels (RMS) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        target = f"≥ {row['target']:g}" if row.get("target") else ""
        cells = (f"{row['seconds']:.3f}", f"{row['faster']:.2f}", target, f"{row['change of good pixels']:.4f}")
        lines.append(f"| {row['row']} | {' | '.join(cells)} |")
    (arguments.out / "refine.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    plot(arguments.out / "refine.png", rows)


def plot(path: Path, rows: list[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    for mode in ("exact", "paper"):
        points = [(row["bad area"], row["seconds"]) for row in rows if row["row"].startswith(mode)]
        axes.plot(*zip(*points, strict=True), "o-", label=mode)
    axes.axhline(rows[0]["seconds"], color="grey", ls="--", label="diffusers, full frame")
    axes.set(
        xlabel="share of the image that is bad", ylabel="CPU seconds", ylim=(0, None), title="Cost against bad area"
    )
    axes.legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
