"""The maps' benchmark as a part of the page: what `benchmarks/maps.py` compares, in interleaved rounds."""

from __future__ import annotations

import torch

from benchmarks import maps
from benchmarks.measure import Work, compared, interleave, peak
from benchmarks.part import Curve, Part, Table
from grefine.indicators.pq_map import PQMap


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Measure PQ-Map against the released procedure, and AQ-Map's memory against the number of phrases."""
    del device
    clip, prompts = maps.build(small=quick)
    images = [maps.picture(512, seed) for seed in range(8)]
    ours = PQMap(clip, prompts, readings={"map_mode": "released"}, batch_size=8)
    alpha = torch.tensor(ours.alpha)
    ways = {
        "ours": lambda: ours(images),
        "released": lambda: [maps.released(clip, prompts, image, alpha) for image in images],
    }
    apart = abs(maps.released(clip, prompts, images[0], alpha)[0] - ours(images[:1])[0].score)
    times = interleave(ways, rounds=3 if quick else 2, warm=1 if quick else 0)
    geometry = "reduced CLIP" if quick else "CLIP ViT-B/16, 224 pixels"
    row = compared(
        f"8 images of 512², {geometry}",
        times["ours"],
        times["released"],
        "the released procedure",
        4.0,
        **{"images/s, ours": len(images) / times["ours"].seconds(), "largest difference of p": f"{apart:.1e}"},
    )
    counts = (2, 30) if quick else (2, 15, 30, 60)
    found = {count: peak("benchmarks.part_maps", "phrases", phrases=count) for count in counts}
    table = Table(
        "AQ-Map of one picture of 1024², every phrase defective, a process of its own",
        ["phrases", "MiB more than before", "CPU s"],
        [[count, cost["peak"] - cost["ready"], cost["cpu"]] for count, cost in found.items()],
    )
    curve = Curve(
        "maps_phrases",
        "AQ-Map, 1024², reduced CLIP",
        "defective phrases",
        "MiB more than before",
        {"AQ-Map": [[count, cost["peak"] - cost["ready"]] for count, cost in found.items()]},
        {"the phrases' full-size float maps, 15": 15 * 4.0},
    )
    return Part(
        "maps",
        "Maps",
        "PQ-Map against the procedure that its authors released (the image encoded once per factor, texts at every "
        "call, one image at a time), same random weights, multi mode.",
        [row],
        [table],
        [curve],
        ["The geometry is reduced in quick runs; only a full run measures ViT-B/16."] if quick else [],
    )


def _phrases(phrases: int) -> Work:
    return lambda: maps.map_once(phrases)


CASES = {"phrases": _phrases}
