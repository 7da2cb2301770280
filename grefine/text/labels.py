"""What the labeller sees of a finished tree."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from grefine.text.features import COMMAS, NO_TAG, NO_WORD, NUMBER_ATOMS, ROOT_TAG, ROOT_WORD

_N = [int(x) for x in NUMBER_ATOMS]


def labeller_atoms(
    words: Sequence[str], norms: Sequence[int], tags: Sequence[int], heads: Sequence[int]
) -> np.ndarray:
    """Return (words, atoms) with the columns of LABELLER_ATOMS."""
    count = len(words)
    first, last, before = [-1] * (count + 1), [-1] * (count + 1), [0] * (count + 1)
    commas, total = [0], 0
    for i, head in enumerate(heads):
        if first[head] == -1:
            first[head] = i
        last[head] = i
        if i < head:
            before[head] += 1
        total += words[i] in COMMAS
        commas.append(total)
    # One step beyond each end, the root and the missing word are words of their own.
    w = [*norms, NO_WORD]
    t = [*tags, NO_TAG]
    out: list[int] = []
    for i, head in enumerate(heads):
        left = first[i] if -1 < first[i] < i else -1
        right = last[i] if last[i] > i else -1
        if head >= 0:
            hw, ht = w[head], t[head]
            head_left = first[head] if first[head] < head and first[head] != i else -1
            head_right = last[head] if last[head] > head and last[head] != i else -1
            low, high = (i, head) if i < head else (head, i)
            comma, gap = min(commas[high] - commas[low + 1], 2), min(high - low, 4)
            above = heads[head]
            h_before, h_after = t[head - 1] if head else NO_TAG, t[head + 1]
            h_left_tag, h_left_word, h_right_tag = t[head_left], w[head_left], t[head_right]
            upper = t[above] if above >= 0 else ROOT_TAG
            side = 1 if i < head else 2
        else:
            hw, ht = ROOT_WORD, ROOT_TAG
            h_before = h_after = h_left_tag = h_right_tag = upper = NO_TAG
            h_left_word = NO_WORD
            comma = gap = side = 0
        out.extend(
            (
                w[i],
                t[i],
                hw,
                ht,
                t[i - 1] if i else NO_TAG,
                t[i + 1],
                h_before,
                h_after,
                w[i + 1],
                w[i - 1] if i else NO_WORD,
                w[left],
                t[left],
                t[right],
                h_left_tag,
                h_right_tag,
                h_left_word,
                _N[side],
                _N[first[head] == i],
                _N[last[head] == i],
                _N[comma],
                upper,
                _N[gap],
                _N[min(before[i], 3)],
            )
        )
    return np.frombuffer(array("I", out), dtype=np.uint32).reshape(count, -1)
