"""What should stay as it is: good pictures that went through a file, and what lies outside the damage."""

from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lab.bench import intervals
from lab.bench.cases import Cases
from lab.bench.chain import Runner
from lab.bench.repaint import widened
from lab.bench.report import Row
from lab.bench_judges.networks import Judges, TieBands
from lab.world.pictures import Way, saved, scaled
from lab.world.stream import BENCHMARK, source

WAYS: tuple[Way, ...] = ("jpeg", "webp", "resized")


def as_saved(pictures: list[Image.Image], way: Way) -> list[Image.Image]:
    """Return the pictures as files give them back; every other one that is resized keeps its new size."""
    generator = source(BENCHMARK, 60 + WAYS.index(way))
    return [
        scaled(picture, generator) if way == "resized" and index % 2 else saved(picture, way, generator)
        for index, picture in enumerate(pictures)
    ]


def saved_rows(runner: Runner, good: Cases) -> tuple[dict[str, Row], list[dict[str, Any]]]:
    """Return the share of good pictures, saved in each way, that come back as they were, and the raw rows."""
    rows, raw = {}, []
    for way in WAYS:
        pictures = as_saved(good.pictures, way)
        images, results = runner.refine(f"clean, {way}", pictures, good.prompts)
        same = [np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(pictures, images, strict=True)]
        rows[f"clean.untouched.{way}"] = intervals.share(same)
        for index, (untouched, result) in enumerate(zip(same, results, strict=True)):
            told = {"kept": result.decision.kept, "reason": result.decision.reason, "p": result.quality.score}
            raw.append({"run": f"clean.{way}", "index": index, "kind": "clean", "untouched": untouched, **told})
    return rows, raw


def outside_rows(judges: Judges, bands: TieBands, bad: Cases, after: Tensor, prefix: str) -> dict[str, Row]:
    """Return how often something outside the true damage is visibly worse, and the share of pixels moved there."""
    rows = [index for index, kind in enumerate(bad.kinds) if kind != "missing"]  # which has no place of its own
    bad, after = bad[rows], after[rows]
    outside = (~widened(bad.masks)).float()
    rise = judges.distance_map(after, bad.clean) - judges.distance_map(bad.images, bad.clean)
    worst = F.avg_pool2d((rise * outside)[:, None], 8, 4).flatten(1).amax(1)
    moved = (bad.images != after).any(1) * outside
    share = moved.sum((1, 2)) / outside.sum((1, 2)).clamp(min=1)
    return {
        f"{prefix}outside.worse": intervals.share(worst > bands.visible),
        f"{prefix}outside.moved": intervals.mean(share),
    }
