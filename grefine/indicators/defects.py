"""From phrase scores to defects, regions and the alignment score: small functions on numbers and grids.

G-Refine (arXiv:2404.18343), Eq. 6 and 8, in the readings of grefine/indicators/readings.py.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

import numpy as np

from grefine.indicators.readings import Combine, NounEvidence, Product, Readings
from grefine.types import DefectKind, Phrase

WORST = 3
BACKGROUND = 0.3
"""A met phrase that claims more of the picture than this is what things stand on or under, not a thing."""
OPEN = 0.85
"""Where the claim of such a background is as high as this, nothing stands on it or before it."""
THING = 0.18
"""Radius of the place that a thing gets which is nowhere to be seen, as a share of the image's shorter side."""


def find_defect(
    a_phs: float, a_pns: float, a_bound: float, margin: float = 0.0, evidence: NounEvidence = "best"
) -> DefectKind | None:
    """Say what is wrong with a phrase: its noun is missing, or present without its attributes. (Sec. 3.2)"""
    if (max(a_phs, a_pns) if evidence == "best" else a_pns) < a_bound:
        return "noun"
    return "attribute" if a_phs < a_pns - margin else None


def region_phrase(
    index: int, phrases: Sequence[Phrase], defects: Sequence[DefectKind | None], readings: Readings
) -> int | None:
    """Return whose noun map says where a defect belongs; None for a missing noun without an ancestor. (Eq. 6)"""
    on_ancestor = (defects[index] == "noun") == (readings.defect_regions == "bullets")
    if not on_ancestor:
        return index
    if readings.ancestor == "literal":
        return phrases[index].ancestor
    # In "a woman wearing a dress and a hat" the hat belongs on the woman, in "a cat, a dog" the dog on nobody.
    for at, beside in climb(index, phrases):
        above = phrases[at]
        there = defects[at] != "noun" and above.drawable and not above.negated
        if not beside and there and above.noun != phrases[index].noun:  # "a cat with a cat" are two
            return at
    return None


def climb(index: int, phrases: Sequence[Phrase]) -> Iterator[tuple[int, bool]]:
    """Return what a phrase hangs on, step by step, and whether the one before stands apart from it."""
    seen = {index}
    while (above := phrases[index].ancestor) not in seen:
        yield above, phrases[index].beside
        seen.add(above)
        index = above


def carrier_phrase(index: int, phrases: Sequence[Phrase], defects: Sequence[DefectKind | None]) -> int | None:
    """Return the outermost missing thing that a missing one belongs on: both are drawn together, in one place."""
    return next((at for at in reversed(carried_by(index, phrases)) if defects[at] == "noun"), None)


def carried_by(index: int, phrases: Sequence[Phrase]) -> list[int]:
    """Return what a phrase hangs on, over any number of steps, without standing apart from it."""
    return [at for at, _ in takewhile(lambda step: not step[1], climb(index, phrases))]


def depends_on(at: int, to: int, phrases: Sequence[Phrase]) -> bool:
    """Say whether a phrase is, or hangs on, another."""
    return at == to or to in carried_by(at, phrases)


def hang_together(first: int, second: int, phrases: Sequence[Phrase]) -> bool:
    """Say whether one of two phrases hangs on the other."""
    return depends_on(first, second, phrases) or depends_on(second, first, phrases)


def combine_regions(regions: Iterable[np.ndarray], shape: tuple[int, int], how: Combine = "noisy_or") -> np.ndarray:
    """Join the regions of all defects, one at a time, into E, `(H, W)`, high where something must be drawn. (Eq. 6)"""
    result: np.ndarray | None = None
    for region in regions:
        if how == "product":
            result = region.copy() if result is None else np.multiply(result, region, out=result)
        elif how == "max":
            result = region.copy() if result is None else np.maximum(result, region, out=result)
        else:
            result = 1.0 - region if result is None else np.multiply(result, 1.0 - region, out=result)
    if result is None:
        return np.full(shape, float(how == "product"), dtype=np.float32)
    return 1.0 - result if how == "noisy_or" else result


def alignment_score(prompt: float, phrases: Sequence[float], beta: float, how: Product = "worst3") -> float:
    """Return a: the whole prompt's score times what unmet phrases leave of it. (Eq. 8)"""
    factors = sorted(min(a / beta, 1.0) for a in phrases)
    if not factors:
        return prompt
    if how == "worst3":
        return prompt * math.prod(factors[:WORST])
    if how == "worst":
        return prompt * factors[0]
    if how == "geometric":
        return prompt * math.prod(factors) ** (1.0 / len(factors))
    return prompt * math.prod(factors)
