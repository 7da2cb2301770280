"""Rows of both maps: PQ-Map against the true defect, AQ-Map against what was changed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from grefine.indicators.aq_map import AQMap
from grefine.indicators.encoding import plain
from grefine.indicators.pq_map import PQMap
from grefine.text.parse import parse
from grefine.types import AlignmentMap
from lab.bench import intervals
from lab.bench.cases import Cases, clean_cases, damaged_cases, misaligned_cases, pictures_of, spans
from lab.bench.report import Row
from lab.world.captions import matches

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
