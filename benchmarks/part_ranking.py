"""The ranking's speed as a part of the page: the greedy choice against computing every distance at every pick."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from benchmarks.measure import compared, interleave
from benchmarks.part import Curve, Part
from grefine.ranking.features import FeatureDistances, appearance_distance, standardised
from grefine.ranking.select import LAMBDA, greedy_mad


def plainly(d1: np.ndarray, layout: np.ndarray, k: int) -> list[int]:
    """Choose as the formula reads: at every pick, every image's mean distance to everything that is picked."""
    picked: list[int] = []
    while len(picked) < k:
        apart = [((layout - layout[index]) ** 2).mean(1) for index in picked]
        gain = d1 + LAMBDA * np.mean(apart, axis=0) if picked else d1.copy()
        gain[picked] = -np.inf
        picked.append(int(gain.argmax()))
    return picked


def part(quick: bool = False, device: str = "cpu") -> Part:
    """Measure the choice of 16 images of 10,000, and how it grows."""
    del device
    rng = np.random.default_rng(0)
    counts = (1000, 10_000) if quick else (1000, 3000, 10_000, 30_000)
    points, row = [], {}
    for count in counts:
        layout = standardised(rng.standard_normal((count, 176), dtype=np.float32))
        pair = [rng.standard_normal((count, 992), dtype=np.float32).astype(np.float16) for _ in range(2)]
        d1 = appearance_distance(*pair)
        ways = {
            "ours": lambda a=d1, b=layout: [pick[0] for pick in map(astuple, greedy_mad(a, FeatureDistances(b), 16))],
            "other": lambda a=d1, b=layout: plainly(a, b, 16),
        }
        same = ways["ours"]() == ways["other"]()
        times = interleave(ways, 3)
        points.append([count, times["ours"].seconds()])
        row = compared(
            f"16 of {count:,} images for one pair of methods",
            times["ours"],
            times["other"],
            "all distances at every pick",
            **{"same choice": "yes" if same else "no"},
        )
    return Part(
        "ranking",
        "Ranking",
        "Choosing the pictures that tell two methods apart, from cached descriptors. Accuracy against votes is in "
        "docs/ranking.md, from `python benchmarks/ranking.py`.",
        [row],
        curves=[Curve("ranking", "Choice of 16", "images", "CPU seconds", {"ours": points}, log=True)],
    )
