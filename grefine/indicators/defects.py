"""From phrase scores and maps to defects, regions and the alignment score: small functions on numbers and grids.

G-Refine (arXiv:2404.18343), Eq. 6 and 8, in the readings of grefine/indicators/readings.py; and what no phrase says by
itself, how things stand to each other and how many there are: where two have changed places every phrase is met.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

import numpy as np
from scipy import ndimage

from grefine.indicators.grids import GridMap
from grefine.indicators.readings import Combine, NounEvidence, Product, Readings
from grefine.types import DefectKind, ParsedPrompt, Phrase

WORST = 3
BACKGROUND = 0.3
"""A met phrase that claims more of the picture than this is what things stand on or under, not a thing."""
OPEN = 0.85
"""Where the claim of such a background is as high as this, nothing stands on it or before it."""
THING = 0.18
"""Radius of the place that a thing gets which is nowhere to be seen, as a share of the image's shorter side."""
AXES = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}
"""Along which axis, x or y, and in which direction the first thing lies from the second."""
_SAME = {"over": "above", "beneath": "below", "under": "below", "underneath": "below"}
_WORDS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
_CUE = re.compile(r"\b(?:(left|right) of|(above|over|below|under|underneath|beneath))\b", re.IGNORECASE)
_BREAK = re.compile(r"[.;!?]")
CLEAR = 0.1
"""Two centres that are more than this share of the picture's side apart the other way stand wrong beyond doubt."""
LEAVES = 0.5
"""What one wrong relation or number leaves of a: less is wrong than where a thing is missing."""
NUMBERS = {"two": 2, "2": 2, "three": 3, "3": 3, "four": 4, "4": 4, "five": 5, "5": 5}
SUMMIT = 0.8
"""Share of a map's peak above which two things that stand apart are two places."""


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


def misplaced(prompt: ParsedPrompt, claims: Mapping[int, GridMap], threshold: float) -> Iterator[str]:
    """Say of what stands clearly the other way round than asked, by the claims of met phrases that are things."""
    for first, kind, second in relations_of(prompt):
        if first in claims and second in claims:
            axis, way = AXES[kind]
            at = [_centre(claims[one], threshold)[axis] for one in (first, second)]
            if way * (at[0] - at[1]) < -CLEAR:
                phrases = prompt.phrases[first], prompt.phrases[second]
                one, other = (" ".join((*phrase.attributes, phrase.noun)) for phrase in phrases)
                yield f'The other way round than asked: "{one}" {_WORDS[kind]} "{other}".'


def relations_of(prompt: ParsedPrompt) -> Iterator[tuple[int, str, int]]:
    """Read how things stand to each other: where the first is, seen from the second; what is on it is told with it."""
    nouns = {j: _noun_start(prompt, j) for j, phrase in enumerate(prompt.phrases) if phrase.spans}
    for cue in _CUE.finditer(prompt.text):
        before = [j for j, at in nouns.items() if at < cue.start()]
        after = [j for j, at in nouns.items() if at >= cue.end()]
        if not before or not after:
            continue
        first, second = max(before, key=lambda j: nouns[j]), min(after, key=lambda j: nouns[j])
        if _BREAK.search(prompt.text[nouns[first] : nouns[second]]):
            continue
        seen = {second}
        while first not in seen and not prompt.phrases[first].beside:
            seen.add(first)
            if _stands_on(prompt, first) not in seen:
                first = _stands_on(prompt, first)
        word = (cue[1] or cue[2]).lower()
        yield first, _SAME.get(word, word), second


def _stands_on(prompt: ParsedPrompt, at: int) -> int:
    """Return what a phrase hangs on, or itself where that is nothing to be seen ("a picture of")."""
    above = prompt.phrases[at].ancestor
    return above if prompt.phrases[above].drawable else at


def _noun_start(prompt: ParsedPrompt, at: int) -> int:
    phrase = prompt.phrases[at]
    last = phrase.noun.split()[-1]
    return next((s for s, e in reversed(phrase.spans) if prompt.text[s:e] == last), phrase.spans[-1][0])


def _centre(claim: GridMap, threshold: float) -> tuple[float, float]:
    """Return x and y, as shares of the sides, of the middle of what a claim holds."""
    _, grid = claim.patches[0]
    weights = np.where(grid >= min(threshold, float(grid.max())), grid, 0.0)
    y, x = ((np.arange(n) + 0.5) / n for n in grid.shape)
    total = float(weights.sum()) or 1.0
    return float(weights.sum(0) @ x) / total, float(weights.sum(1) @ y) / total


def too_few(phrase: Phrase, claim: GridMap) -> str:
    """Return a sentence if a met phrase's map shows fewer separate places than the phrase asks for, else nothing."""
    asked = next((NUMBERS[word.lower()] for word in phrase.words if word.lower() in NUMBERS), 0)
    grid = claim.patches[0][1]
    seen = int(ndimage.label(grid > SUMMIT * grid.max())[1]) if asked else 0
    return f'Fewer than asked: {seen} of "{phrase.text}".' if seen < asked else ""
