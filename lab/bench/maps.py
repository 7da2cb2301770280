"""Rows of both maps and of the pipeline's quality networks, against the truth of the toy world."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grefine.indicators.aq_map import AQMap
from grefine.indicators.encoding import plain
from grefine.indicators.pq_map import PQMap
from grefine.models.mdiqa import TECHNICAL
from grefine.text.parse import parse
from grefine.types import AlignmentMap
from lab.bench import intervals
from lab.bench.cases import Cases, clean_cases, damaged_cases, misaligned_cases, pictures_of, spans
from lab.bench.report import Row
from lab.world.captions import matches
from lab.world.stream import BENCHMARK, source

BATCH = 64
"""Pictures per call of a map."""


def quality_rows(pq: PQMap, count: int) -> dict[str, Row]:
    """Measure PQ-Map: pixels against the true mask, clean against damaged, p against severity."""
    seen, held_out = damaged_cases(count, 1), damaged_cases(count, 2, held_out=True)
    good = [q.score for q in _in_batches(pq, clean_cases(count, 3).pictures)]
    rows: dict[str, Row] = {}
    for name, suffix, cases in (("seen", "", seen), ("heldout", ".heldout", held_out)):
        found = _in_batches(pq, cases.pictures)
        scores = [q.score for q in found]
        rows[f"pq.ap.{name}"] = intervals.average_precision([1.0 - q.values for q in found], list(cases.masks.numpy()))
        rows[f"pq.auc{suffix}"] = intervals.separation(good, scores)
        rows[f"pq.srcc{suffix}"] = intervals.correlation(-np.asarray(scores), cases.severity.numpy())
    return rows


def alignment_rows(aq: AQMap, count: int, prefix: str = "") -> dict[str, Row]:
    """Measure AQ-Map: aligned against misaligned by a, the wrong phrase by name, phrases by place."""
    rows: dict[str, Row] = {}
    named: list[bool] = []

    def told_apart(name: str, cases: Cases) -> list[AlignmentMap]:
        prompts = [parse(text) for text in cases.prompts]
        bad, good = (_in_batches(aq, pictures_of(images), prompts) for images in (cases.images, cases.clean))
        scores = [[1.0 if found.score is None else found.score for found in one] for one in (good, bad)]
        rows[f"{prefix}aq.auc.{name}"] = intervals.separation(*scores)
        return bad

    for number, kind in enumerate(("colour", "missing", "object", "texture", "relation", "count")):
        cases = misaligned_cases(kind, count, 10 + number)
        bad = told_apart(kind, cases)
        if number < 4:
            named += [_names_slot(found, cases, i) for i, found in enumerate(bad)]
    rows[f"{prefix}aq.named"] = intervals.share(named)
    unseen = [misaligned_cases(kind, count // 2, 20 + i, "held_out") for i, kind in enumerate(("colour", "object"))]
    told_apart("heldout_pairs", Cases.cat(unseen))

    # On good pictures: is the asked thing where the map of its phrase is high?
    cases, at = clean_cases(count, 30), torch.arange(count)
    things = [caption.objects[0] for caption in cases.captions]
    meant = matches(cases.scenes, things)[at, : cases.objects.shape[1], at]
    truths = list((cases.objects & meant[:, :, None, None]).any(1).numpy())
    maps = _phrase_maps(aq, cases, [thing.text for thing in things])
    hits = [truth.ravel()[values.argmax()] for values, truth in zip(maps, truths, strict=True)]
    return rows | {
        f"{prefix}aq.pointing": intervals.share(hits),
        f"{prefix}aq.ap": intervals.average_precision(maps, truths),
        f"{prefix}aq.area": intervals.mean([truth.mean() for truth in truths]),
    }


def _names_slot(found: AlignmentMap, cases: Cases, index: int) -> bool:
    """Whether the worst of the phrases that AQ-Map calls defective is the one that is wrong."""
    defects = [p for p in found.phrases if p.defect is not None]
    if not defects:
        return False
    worst = min(defects, key=lambda p: (p.a_phs, p.a_pns)).phrase
    caption, slot = cases.captions[index], int(cases.slot[index])
    start, end = spans(caption, parse(caption.text).text)[min(slot, len(caption.objects) - 1)]
    return any(start <= a and b <= end for a, b in worst.spans)


@torch.no_grad()
def _phrase_maps(aq: AQMap, cases: Cases, texts: Sequence[str]) -> list[np.ndarray]:
    """Return the map of one text per picture, stretched over all pictures together, so that values compare. (Eq. 5)"""
    encoding = aq.encode(cases.pictures)
    encoded = aq.text_features([*texts, ""])
    grids = []
    for index in range(len(cases)):
        features = encoding.views[index][0][1][None]
        values = plain(features, encoded[index : index + 1].to(features.device))
        if aq.calibration.redundant != "none":
            values = values - plain(features, encoded[-1:].to(features.device))
        grids.append(values[0, 1:, 0])
    low, high = torch.stack(grids).min(), torch.stack(grids).max()
    stretched = [(grid - low) / (high - low).clamp(min=1e-9) for grid in grids]
    return [encoding.grid_map(index, [grid], "bilinear").draw() for index, grid in enumerate(stretched)]


def _in_batches(look: Callable[..., list[Any]], *columns: Sequence[Any]) -> list[Any]:
    starts = range(0, len(columns[0]), BATCH)
    return [found for start in starts for found in look(*(column[start : start + BATCH] for column in columns))]


def scorer_rows(scorers: Mapping[str, Any], count: int) -> dict[str, Row]:
    """Measure MoE-AGIQA, LAR-IQA and MDIQA, by name, as far as the pipeline has them."""
    mixed, rows = Cases.cat([damaged_cases(count, 70), clean_cases(count // 4, 71)]), {}
    for name, row, value in (("moe_agiqa", "judge.moe", "moe_agiqa.quality"), ("lar_iqa", "judge.lar", "lar_iqa")):
        if name in scorers:
            scores = [s[value] for s in scorers[name](mixed.pictures, mixed.prompts)]
            rows[row] = intervals.correlation(scores, -mixed.severity.numpy())
    if "moe_agiqa" in scorers:
        rows["judge.prompt"] = intervals.share(_swapped(scorers["moe_agiqa"], clean_cases(count, 72)))
    return rows | (_dimension_rows(scorers["mdiqa"], count) if "mdiqa" in scorers else {})


def _swapped(scorer: Any, cases: Cases) -> list[bool]:
    """Whether the judge of prompt and picture falls under the next picture's prompt, where that is not true."""
    rows = torch.arange(len(cases))
    following = cases.captions[1:] + cases.captions[:1]
    untrue = ~matches(cases.scenes, [caption.objects[0] for caption in following])[rows, :, rows].any(1)
    own, other = (scorer(cases.pictures, [c.text for c in captions]) for captions in (cases.captions, following))
    name = "moe_agiqa.alignment" if "moe_agiqa.alignment" in own[0] else "moe_agiqa.quality"
    return [b[name] < a[name] for a, b, use in zip(own, other, untrue.tolist(), strict=True) if use]


def _dimension_rows(scorer: Any, count: int) -> dict[str, Row]:
    """Correlate each technical dimension with the strength of its own distortion, and see which one moves it most."""
    cases, strength = clean_cases(count, 73), torch.rand(count, generator=source(BENCHMARK, 74))

    def rated(images: Tensor) -> np.ndarray:
        return np.array([[one[f"mdiqa.{name}"] for name in TECHNICAL] for one in scorer(pictures_of(images))])

    before = rated(cases.clean)
    spoilt = [rated(DISTORTIONS[name](cases.clean, strength[:, None, None, None])) for name in TECHNICAL]
    own = [values[:, column] for column, values in enumerate(spoilt)]
    truth, names = -strength.numpy(), (f"judge.mdiqa.{name}" for name in TECHNICAL)
    rows = {name: intervals.correlation(values, truth) for name, values in zip(names, own, strict=True)}
    falls = np.stack([(before - values).mean(0) for values in spoilt])
    rows["judge.mdiqa"] = intervals.mean_correlation(np.stack(own), truth)
    rows["judge.mdiqa.own"] = intervals.share(falls.argmax(0) == np.arange(len(TECHNICAL)))
    return rows


def _grey(images: Tensor) -> Tensor:
    return (images * torch.tensor([0.30, 0.59, 0.11])[:, None, None]).sum(1, keepdim=True)


def _blurred(images: Tensor, s: Tensor) -> Tensor:
    soft = images
    for _ in range(4):
        soft = F.avg_pool2d(F.pad(soft, [1] * 4, mode="replicate"), 3, 1)
    return images + (soft - images) * s


def _noisy(images: Tensor, s: Tensor) -> Tensor:
    return images + 0.18 * s * torch.randn(images.shape, generator=source(BENCHMARK, 75))


DISTORTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": lambda images, s: images * (1 - 0.7 * s),
    "colorfulness": lambda images, s: images + (_grey(images) - images) * s,
    "contrast": lambda images, s: images + (_grey(images).mean((2, 3), keepdim=True) - images) * 0.8 * s,
    "noisiness": _noisy,
    "sharpness": _blurred,
}
"""The benchmark's own whole-picture distortions, by the technical dimension that each is about."""
