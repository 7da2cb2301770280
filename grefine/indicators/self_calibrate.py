"""Thresholds from the pictures themselves, a part of which may be bad."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from grefine.errors import ConfigError
from grefine.indicators.aq_map import AQMap, Prompt, parsed_prompt
from grefine.indicators.calibrate import Calibrated, calibrate, signs_of
from grefine.indicators.evidence import ENOUGH_IMAGES, gather
from grefine.indicators.pq_map import PQMap

ENOUGH = 50
"""Pictures that a folder must hold before it is calibrated on itself."""
SAMPLE = 128
"""Pictures of a folder that are looked at."""
TOLD_APART = 0.8
"""Share of the variance of a sign that lies between two groups, above which they are taken for good and bad: one group
alone, split where it splits best, has 0.64 (a bell) to 0.75 (all values alike often)."""
FENCE, LEAST_SPREAD = 6.0, 0.02
"""A group too small to be told apart lies further below the median than this many times the way from there down to the
lowest fifth, or than this share of the whole range times as many."""
ROUNDS = 4
"""How often a sign's low group is taken off: very bad pictures hide those that are less so."""


def self_calibrate(
    pq: PQMap, aq: AQMap, images: Callable[[], Iterable[Image.Image]], prompts: Sequence[Prompt]
) -> tuple[Calibrated, int]:
    """Measure a CLIP on pictures that nobody looked at; return the result and how many pictures it leaves out.

    Every picture's phrases are held against those of the others. Where a sign of a defect falls into two groups, the
    pictures of the lower one are left out, and the rest is calibrated as good pictures are.
    """
    texts = [parsed_prompt(prompt) for prompt in prompts]
    good = likely_good(list(signs_of(gather(pq, aq, images(), texts), pq).values()))
    if good.sum() < ENOUGH_IMAGES:
        raise ConfigError(
            f"Only {int(good.sum())} of the {len(good)} pictures look alike enough to calibrate on, {ENOUGH_IMAGES} "
            "are needed: run `grefine calibrate` on good pictures, or give --force to go on with guesses."
        )
    kept = [text for text, keep in zip(texts, good, strict=True) if keep]
    chosen = (image for image, keep in zip(images(), good, strict=True) if keep)
    done = calibrate(pq, aq, chosen, kept)
    made_from = done.calibration.made_from | {"self": True, "left_out": int((~good).sum())}
    return replace(done, calibration=replace(done.calibration, made_from=made_from)), int((~good).sum())


def likely_good(signs: Sequence[np.ndarray]) -> np.ndarray:
    """Return which pictures no sign puts into a group apart on its low side; infinite values have nothing to judge."""
    good = np.ones(len(signs[0]), dtype=bool)
    for values in signs:
        left = np.isfinite(values)
        for _ in range(ROUNDS):
            limit = split(values[left])
            if limit is None:
                break
            left &= values >= limit
        if left.any():
            low, middle = np.quantile(values[left], [0.2, 0.5])
            spread = max(middle - low, LEAST_SPREAD * np.ptp(values[left]))
            left &= values >= float(middle - FENCE * spread)
        good &= left | ~np.isfinite(values)
    return good


def split(values: np.ndarray) -> float | None:
    """Return where values fall into two groups, by the variance between them (Otsu); None where they are one."""
    ordered = np.sort(values)
    count = len(ordered)
    total = float(ordered.var() * count) if count > 1 else 0.0
    if total <= 0.0:
        return None
    below = np.arange(1, count)
    sums = np.cumsum(ordered)
    means = sums[:-1] / below, (sums[-1] - sums[:-1]) / (count - below)
    between = below * (count - below) / count * (means[1] - means[0]) ** 2
    best = int(between.argmax())
    return float((ordered[best] + ordered[best + 1]) / 2) if between[best] >= TOLD_APART * total else None
