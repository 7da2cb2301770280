"""Rows of both maps: PQ-Map against the true defect, AQ-Map against what was changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from grefine.indicators import similarity
from grefine.indicators.aq_map import AQMap
from grefine.indicators.pq_map import PQMap
from grefine.text.parse import parse
from grefine.types import AlignmentMap
from lab.bench import intervals
from lab.bench.cases import Cases, clean_cases, damaged_cases, misaligned_cases, pictures_of, spans
from lab.bench.report import Row
from lab.world.captions import Thing, matches

BATCH = 64
"""Pictures per call of a map."""


@dataclass(frozen=True)
class Eyes:
    """A pipeline's own views."""

    pq: PQMap | None
    """None for a CLIP without quality prompts."""
    aq: AQMap


def eyes_of(pipe: Any) -> Eyes:
    """Return the maps as the pipeline itself looks through them."""
    calibration = pipe.config.calibration
    return Eyes(
        PQMap(pipe.clip, pipe.pq_prompts, calibration=calibration, batch_size=BATCH),
        AQMap(pipe.clip, pipe.clip_tokenizer, calibration=calibration, batch_size=BATCH),
    )


def quality_rows(pq: PQMap, count: int) -> dict[str, Row]:
    """Measure PQ-Map: pixels against the true mask, clean against damaged, p against severity."""
    seen, held_out = damaged_cases(count, 1), damaged_cases(count, 2, held_out=True)
    clean = clean_cases(count, 3)
    good = [q.score for q in _quality(pq, clean)]
    rows: dict[str, Row] = {}
    for name, cases in (("seen", seen), ("heldout", held_out)):
        found = _quality(pq, cases)
        worst = [1.0 - q.values for q in found]
        rows[f"pq.ap.{name}"] = intervals.average_precision(worst, list(cases.masks.numpy()))
        scores = [q.score for q in found]
        suffix = "" if name == "seen" else ".heldout"
        rows[f"pq.auc{suffix}"] = intervals.separation(good, scores)
        rows[f"pq.srcc{suffix}"] = intervals.correlation(-np.asarray(scores), cases.severity.numpy())
    return rows


def alignment_rows(aq: AQMap, count: int, prefix: str = "") -> dict[str, Row]:
    """Measure AQ-Map: aligned against misaligned by a, the wrong phrase by name, phrases by place."""
    rows: dict[str, Row] = {}
    named: list[bool] = []
    for number, kind in enumerate(("colour", "missing", "object", "texture", "relation", "count")):
        cases = misaligned_cases(kind, count, 10 + number)
        bad = _alignment(aq, cases)
        good = aq_scores(aq, cases, on_clean=True)
        rows[f"{prefix}aq.auc.{kind}"] = intervals.separation(good, [_score(found) for found in bad])
        if number < 4:
            named += [names_slot(found, cases, i) for i, found in enumerate(bad)]
    rows[f"{prefix}aq.named"] = intervals.share(named)
    unseen = [misaligned_cases(kind, count // 2, 20 + i, "held_out") for i, kind in enumerate(("colour", "object"))]
    cases = Cases.cat(unseen)
    bad_scores = [_score(found) for found in _alignment(aq, cases)]
    rows[f"{prefix}aq.auc.heldout_pairs"] = intervals.separation(aq_scores(aq, cases, on_clean=True), bad_scores)
    return rows | phrase_rows(aq, clean_cases(count, 30), prefix)


def aq_scores(aq: AQMap, cases: Cases, on_clean: bool) -> list[float]:
    """Return a of each caption on the picture that it describes, or on the one that it does not."""
    return [_score(found) for found in _alignment(aq, cases, on_clean)]


def names_slot(found: AlignmentMap, cases: Cases, index: int) -> bool:
    """Whether the worst of the phrases that AQ-Map calls defective is the one that is wrong."""
    defects = [p for p in found.phrases if p.defect is not None]
    if not defects:
        return False
    worst = min(defects, key=lambda p: (p.a_phs, p.a_pns)).phrase
    caption, slot = cases.captions[index], int(cases.slot[index])
    start, end = spans(caption, parse(caption.text).text)[min(slot, len(caption.objects) - 1)]
    return any(start <= a and b <= end for a, b in worst.spans)


def phrase_rows(aq: AQMap, cases: Cases, prefix: str = "") -> dict[str, Row]:
    """Measure phrase maps on good pictures: is the asked thing where the map is high?"""
    things = [caption.objects[0] for caption in cases.captions]
    truths = _truth(cases, things)
    maps = phrase_maps(aq, cases, [thing.text for thing in things])
    hits = [truth.ravel()[values.argmax()] for values, truth in zip(maps, truths, strict=True)]
    areas = [truth.mean() for truth in truths]
    return {
        f"{prefix}aq.pointing": intervals.share(hits),
        f"{prefix}aq.ap": intervals.average_precision(maps, truths),
        f"{prefix}aq.area": intervals.mean(areas),
    }


@torch.no_grad()
def phrase_maps(aq: AQMap, cases: Cases, texts: Sequence[str]) -> list[np.ndarray]:
    """Return the map of one text per picture, stretched over all pictures together, so that values compare. (Eq. 5)"""
    encoding = aq.encode(cases.pictures)
    encoded = aq.text_features([*texts, ""])
    grids = []
    for index in range(len(cases)):
        features = encoding.views[index][0].features[None]
        own, empty = encoded[index : index + 1].to(features.device), encoded[-1].to(features.device)
        if aq.calibration.redundant == "none":
            values = similarity.plain(features, own)
        else:
            values = similarity.plain(features, own) - similarity.plain(features, empty[None])
        grids.append(values[0, 1:, 0])
    low, high = torch.stack(grids).min(), torch.stack(grids).max()
    stretched = [(grid - low) / (high - low).clamp(min=1e-9) for grid in grids]
    return [encoding.grid_map(index, [grid], "bilinear").draw() for index, grid in enumerate(stretched)]


def _truth(cases: Cases, things: Sequence[Thing]) -> list[np.ndarray]:
    """Return (H, W) bool per picture: the pixels of every object that its phrase means."""
    rows = torch.arange(len(cases))
    meant = matches(cases.scenes, list(things))[rows, : cases.objects.shape[1], rows]
    return list((cases.objects & meant[:, :, None, None]).any(1).numpy())


def _quality(pq: PQMap, cases: Cases) -> list[Any]:
    pictures = cases.pictures
    return [q for start in range(0, len(pictures), BATCH) for q in pq(pictures[start : start + BATCH])]


def _alignment(aq: AQMap, cases: Cases, on_clean: bool = False) -> list[AlignmentMap]:
    pictures = pictures_of(cases.clean if on_clean else cases.images)
    prompts = [parse(text) for text in cases.prompts]
    return [
        found
        for start in range(0, len(pictures), BATCH)
        for found in aq(pictures[start : start + BATCH], prompts[start : start + BATCH])
    ]


def _score(found: AlignmentMap) -> float:
    return 1.0 if found.score is None else found.score
