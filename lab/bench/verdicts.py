"""Was it improved, made worse, left alone? By pixels and the judges, never by a score that a pipeline knows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lab.bench import intervals
from lab.bench.cases import Cases, Runner, widened
from lab.bench.report import Row
from lab.bench_judges.networks import PRESENT, Judges, TieBands
from lab.world.captions import ANY
from lab.world.pictures import Way, saved, scaled
from lab.world.stream import BENCHMARK, source
from lab.world.vocabulary import DEFECT_KINDS

ATTRIBUTE = {"colour": 0, "object": 1, "texture": 2}
"""Which reading of the judge a misalignment is about."""


@dataclass(frozen=True)
class Verdict:
    """What the judges say of one picture before and after."""

    kind: str
    improved: bool
    worse: bool
    untouched: bool
    """Every pixel is as it was."""
    fixed: bool
    """The asked attribute was wrong and is right; the missing thing is there."""
    attribute_lost: bool
    """Some object's colour, thing or texture was right and is wrong."""
    before: float
    """Judge's distance to the clean scene inside the true mask."""
    after: float
    change: float
    """Judge's distance between before and after where they differ most."""


def judge(judges: Judges, bands: TieBands, cases: Cases, after: Tensor) -> list[Verdict]:
    """Compare pictures with what came out of them (B, 3, 64, 64), by the rules of docs/toyworld.md."""
    first, then = judges.read(cases.images, cases.scenes), judges.read(after, cases.scenes)
    right, still = first.right(cases.scenes), then.right(cases.scenes)
    lost = right & ~still
    moved = torch.stack([first.colour != then.colour, first.noun != then.noun, first.texture != then.texture], -1)
    moved &= cases.scenes.present[..., None]
    near = judges.distance(cases.images, cases.clean, cases.masks)
    nearer = judges.distance(after, cases.clean, cases.masks)
    change = judges.visible_change(cases.images, after)
    same = (cases.images == after).flatten(1).all(1)
    # A missing thing has appeared where more of it in its colour is to be seen, wherever it was drawn.
    rows, slots = torch.arange(len(cases)), cases.slot.clamp(min=0)
    noun, colour = cases.scenes.noun[rows, slots], cases.scenes.colour[rows, slots]
    appeared = judges.area_of(after, noun, colour) - judges.area_of(cases.images, noun, colour) >= PRESENT
    found = []
    for i, kind in enumerate(cases.kinds):
        slot, fixed = int(cases.slot[i]), False
        others = torch.arange(right.shape[1]) != slot
        if kind in DEFECT_KINDS:
            improved, worse = bool(near[i] - nearer[i] > bands.distance), bool(nearer[i] - near[i] > bands.distance)
        elif kind == "clean":
            improved, worse = False, bool(change[i] > bands.visible) or bool(lost[i].any())
        else:
            thing = cases.captions[i].thing(slot)
            asked = torch.tensor([thing.colour != ANY, thing.noun != ANY, thing.texture != ANY])
            if kind == "missing":
                fixed = bool(appeared[i]) or bool(still[i, slot, :2].all() and not right[i, slot, :2].all())
            elif kind == "native":
                fixed = bool((~right[i, slot] & still[i, slot] & asked).any())
            elif kind in ATTRIBUTE:
                at = ATTRIBUTE[kind]
                fixed = bool(still[i, slot, at] & ~right[i, slot, at])
            own_lost = bool((lost[i, slot] & asked).any())
            worse = own_lost or bool(lost[i, others].any())
            improved = fixed and not own_lost and not bool(moved[i, others].any())
        distances = (float(values[i]) for values in (near, nearer, change))
        found.append(Verdict(kind, improved, worse, bool(same[i]), fixed, bool(lost[i].any()), *distances))
    return found


def outcome_rows(
    verdicts: Sequence[Verdict], prefix: str, names: Sequence[str] = ("improved", "worse")
) -> dict[str, Row]:
    """Return the shares of pictures of which something holds."""
    return {f"{prefix}{name}": intervals.share([getattr(v, name) for v in verdicts]) for name in names}


def repair_rows(verdicts: Sequence[Verdict], prefix: str) -> dict[str, Row]:
    """Return how much nearer damaged places came to the clean scene, and how often an object lost an attribute."""
    damaged = [v for v in verdicts if v.kind in DEFECT_KINDS]
    return {
        f"{prefix}distance": intervals.ratio([v.after for v in damaged], [v.before for v in damaged]),
        f"{prefix}attributes_worse": intervals.share([v.attribute_lost for v in damaged]),
    }


def records(run: str, cases: Cases, verdicts: Sequence[Verdict], results: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Return one plain record per picture: the published raw rows."""
    rows = []
    for index, verdict in enumerate(verdicts):
        row = {"run": run, "index": index, "caption": cases.captions[index].text, **asdict(verdict)}
        if results:
            decision = results[index].decision
            row |= {"kept": decision.kept, "guarded": decision.guarded, "reason": decision.reason}
            row |= {"area": round(results[index].plan.area, 4)}
        rows.append(row)
    return rows


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
