"""PQ-Map against the procedure that its authors released: same weights, same pictures, one run.

The released script encodes the image once per factor, runs the texts at every call over all 77 positions, and takes
one image at a time. Ours looks once, at a batch, and remembers texts. Weights are random at the published geometry:
speed does not depend on them, and both sides must give the same numbers.

    python benchmarks/maps.py [--images 8] [--size 512] [--small] [-o benchmarks/results]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from grefine.indicators.aq_map import AQMap
from grefine.indicators.encoding import factor_logits, min_max
from grefine.indicators.pq_map import PQMap, cask
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.types import ParsedPrompt, Phrase

SMALL = {"vision_layers": 6, "vision_width": 128, "vision_heads": 2, "text_width": 128, "text_layers": 3,
         "text_heads": 2, "embed_dim": 64, "vocab_size": 512, "eos_token_id": 511}  # fmt: skip


def build(small: bool) -> tuple[ClipSurgery, PQPrompts]:
    """Make a CLIP of the published (or a reduced) geometry with random weights."""
    torch.manual_seed(0)
    clip = ClipSurgery(**(SMALL if small else {})).eval()
    prompts = PQPrompts(16, clip.clip.token_embedding.embedding_dim)
    prompts.token_prefix.normal_(std=0.02)
    prompts.token_suffix.normal_(std=0.02)
    return clip, prompts.eval()


@torch.no_grad()
def released(
    clip: ClipSurgery, prompts: PQPrompts, image: Image.Image, alpha: torch.Tensor
) -> tuple[float, np.ndarray]:
    """Judge one image as the released script does: per factor one image encoding and one full text encoding."""
    embeddings = prompts.embeddings().unflatten(0, (4, 2))
    pixels, chances, grid = clip.preprocess_pil([image]), [], None
    for factor in range(4):
        x = embeddings[factor] + clip.clip.positional_embedding
        x = clip.clip.ln_final(clip.clip.transformer(x, attn_mask=clip.clip.attn_mask))
        text = x[:, 1 + 16 + 3] @ clip.clip.text_projection
        logits = factor_logits(clip.encode_image(pixels), text[None], "token")[0, :, 0]
        chances.append(logits[0].softmax(-1)[0])
        if factor == 0:
            grid = min_max(logits[1:, 0].reshape(clip.grid))
    height, width = image.height, image.width
    drawn = F.interpolate(grid[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
    return float(cask(torch.stack(chances), alpha)), drawn.numpy()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and process seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def speed(images: list[Image.Image], small: bool) -> dict[str, float]:
    """Time both on the same pictures and compare what they say."""
    clip, prompts = build(small)
    ours = PQMap(clip, prompts, readings={"map_mode": "released"}, batch_size=8)
    alpha = torch.tensor(ours.alpha)
    ours(images[:1])
    released(clip, prompts, images[0], alpha)
    fresh = PQMap(clip, prompts, readings={"map_mode": "released"}, batch_size=8)
    theirs = [released(clip, prompts, image, alpha) for image in images[:1]]
    found = fresh(images[:1])
    both = [timed(lambda: [released(clip, prompts, image, alpha) for image in images]), timed(lambda: fresh(images))]
    both += [timed(lambda: fresh(images)), timed(lambda: [released(clip, prompts, image, alpha) for image in images])]
    slow, fast = (both[0][1] + both[3][1]) / 2, (both[1][1] + both[2][1]) / 2
    wall_slow, wall_fast = (both[0][0] + both[3][0]) / 2, (both[1][0] + both[2][0]) / 2
    return {
        "released_images_per_cpu_second": len(images) / slow,
        "ours_images_per_cpu_second": len(images) / fast,
        "times_faster_cpu": slow / fast,
        "times_faster_wall": wall_slow / wall_fast,
        "largest_difference_p": abs(theirs[0][0] - found[0].score),
        "largest_difference_map": float(np.abs(theirs[0][1] - found[0].values).max()),
    }


def bfloat16(images: list[Image.Image], small: bool) -> dict[str, float]:
    """Measure how far bfloat16 moves scores and maps."""
    clip, prompts = build(small)
    modes = ("released", "paper")
    exact = {mode: PQMap(clip, prompts, readings={"map_mode": mode}, tiles=1)(images) for mode in modes}
    clip.to(torch.bfloat16)
    found: dict[str, float] = {}
    for mode in modes:
        coarse = PQMap(clip, prompts, readings={"map_mode": mode}, tiles=1)(images)
        pairs = list(zip(exact[mode], coarse, strict=True))
        found[f"{mode}_map"] = max(float(np.abs(a.values - b.values).max()) for a, b in pairs)
        found["factors"] = max(abs(a.factors[f] - b.factors[f]) for a, b in pairs for f in a.factors)
    return found


def peak_memory(phrases: int) -> float:
    """Return the peak resident megabytes of a fresh process that maps one 1024 x 1024 picture with so many defects."""
    done = subprocess.run([sys.executable, __file__, "--phrases", str(phrases)], capture_output=True, check=True)
    return float(done.stdout)


class Words:
    """A tokenizer that is enough for memory: one id per letter."""

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        """Return one id per letter, between those of start and end."""
        return {"input_ids": [510, *(ord(letter) % 500 for letter in text), 511]}


def map_once(phrases: int) -> float:
    """Map one picture in this process and return its peak resident megabytes."""
    clip, _ = build(True)
    made = tuple(Phrase(f"ball {i}", ("a", f"ball {i}"), (), i) for i in range(phrases))
    aq = AQMap(clip, Words(), calibration={"a_bound": 1.1})
    result = aq([picture(1024, 0)], [ParsedPrompt("a ball", (), made)])[0]
    if len(result.defects) != phrases:
        raise SystemExit("not every phrase was defective")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def picture(size: int, seed: int) -> Image.Image:
    """Draw a picture with structure at several scales."""
    rng = np.random.default_rng(seed)
    layers = [Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize((size, size)) for n in (5, 40)]
    return Image.blend(layers[0], layers[1], 0.4)


def main() -> None:
    """Run everything and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--small", action="store_true", help="a reduced geometry, in seconds")
    parser.add_argument("--phrases", type=int, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.phrases is not None:
        print(map_once(options.phrases))
        return
    images = [picture(options.size, seed) for seed in range(options.images)]
    memory = {f"megabytes_{count}_phrases": peak_memory(count) for count in (2, 30)}
    memory["megabytes_30_full_size_float_maps"] = 30 * 4.0
    result = {
        "geometry": "reduced" if options.small else "ViT-B/16, 224 pixels",
        "images": options.images,
        "size": options.size,
        "threads": 1,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "speed": speed(images, options.small),
        "bfloat16_largest_change": bfloat16(images[:2], options.small),
        "memory_1024": memory,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "maps.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = markdown(result)
    (options.out / "maps.md").write_text(text, encoding="utf-8")
    print(text)


def markdown(result: dict) -> str:
    """Return the result as a table."""
    rows = [
        f"{result['geometry']}, {result['images']} images of {result['size']} pixels, multi mode, one CPU thread, "
        f"torch {result['torch']}, random weights.",
        "",
        "| quantity | value |",
        "|---|---|",
    ]
    for group in ("speed", "bfloat16_largest_change", "memory_1024"):
        rows += [f"| {group}: {name.replace('_', ' ')} | {value:.4g} |" for name, value in result[group].items()]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
