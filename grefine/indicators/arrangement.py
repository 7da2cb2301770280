"""What no phrase says by itself: how things stand to each other, and how many there are.

The paper's phrases are judged one by one, so that a picture in which two of them have changed places, or one of three
is not there, meets its prompt. The prompt's text says what was asked; the maps of met phrases say where each is.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np
from scipy import ndimage

from grefine.indicators.grids import GridMap
from grefine.types import ParsedPrompt, Phrase

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
