"""What the tagger, the parser and the labeller look at, as rows of hashed weight tables.

Every word, tag and count becomes a 32-bit number (an atom). A template names a few atoms; its row is the upper bits
of a fixed random linear form of them, so that all rows of a state come from one small matrix product in wrapping
integers."""

from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np

_MIX = 0x9E3779B1
_MASK = 0xFFFFFFFF


def atom(text: str) -> int:
    """Return the 32-bit atom of a text."""
    h = crc32(text.encode("utf-8", "surrogatepass")) * _MIX & _MASK
    return (h ^ h >> 15) * 0x85EBCA6B & _MASK


class Templates:
    """Named atoms and templates over them: `matrix` is (templates, atoms + 1), its last column their constants."""

    def __init__(self, name: str, atoms: Sequence[str], listed: str) -> None:
        """Read the templates from a text: atoms with spaces between them, templates with commas."""
        templates = listed.split(",")
        self.atoms = {a: k for k, a in enumerate(atoms)}
        random = np.random.RandomState(atom(name))
        matrix = np.zeros((len(templates), len(atoms) + 1), dtype=np.uint32)
        for row, template in enumerate(templates):
            for part in template.split():
                matrix[row, self.atoms[part]] = random.randint(0, 2**31, dtype=np.int64) * 2 + 1
            matrix[row, -1] = random.randint(0, 2**31, dtype=np.int64) * 2 + 1
        self.matrix = matrix

    def __len__(self) -> int:
        return len(self.matrix)


WORD_ATOMS = ("norm", "lower", "suf1", "suf2", "suf3", "suf4", "pre1", "pre2", "pre3", "shape", "class", "tail")
"""What is known of one word by itself; columns of `Lexicon.atoms`."""


class Lexicon:
    """Words that are known well, with the tags they take; everything else is known by its form."""

    def __init__(self, classes: Mapping[str, str], endings: Mapping[str, str]) -> None:
        self.classes = classes
        """Known word (lower case) -> its usual tags, most frequent first, joined by "|"; a single tag that ends in
        "!" is certain."""
        self.endings = endings
        """Last three letters -> usual tags of rare words that end so."""
        self.certain = {w: c[:-1] for w, c in classes.items() if c.endswith("!")}
        self.atoms = lru_cache(100_000)(self._atoms)

    def _atoms(self, word: str) -> tuple[int, ...]:
        """Return the atoms of a word, in the order of WORD_ATOMS."""
        word = word[:64]
        lower = word.lower()
        plain = number_form(lower)
        known = plain in self.classes
        tail = plain.rsplit("-", 1)[-1] if "-" in plain[1:-1] else ""
        norm = plain if known else "_" + plain[-3:]
        tags = self.classes.get(plain) or self.endings.get(plain[-3:], "?")
        ends = [f"{size}{plain[-size:]}" for size in (1, 2, 3, 4)]
        starts = [f"<{plain[:size]}" for size in (1, 2, 3)]
        digit = "9" if any(c.isdigit() for c in word) else ""
        shape = digit or "."
        if any(c.isalpha() for c in word):
            case = "A" if word.isupper() and len(word) > 1 else "C" if word[0].isupper() else "a"
            shape = case + digit + ("-" if "-" in word else "")
        parts = (norm, plain, *ends, *starts, "#" + shape, "=" + tags, "-" + tail)
        return tuple(atom(p) for p in parts)


def number_form(lower: str) -> str:
    """Return a word with its digits made equal."""
    if lower.isascii() and lower.isalpha():
        return lower
    return "".join("0" if c.isdigit() else c for c in lower)


_WINDOW = ("-2", "-1", "+0", "+1", "+2")
TAGGER_ATOMS = tuple(f"{a}{p}" for p in _WINDOW for a in WORD_ATOMS) + ("caps", "first")
TAGGER_STATIC = Templates(
    "tagger",
    TAGGER_ATOMS,
    """
    lower+0, lower-1, lower+1, norm-2, norm+2, norm-1 norm+0, norm+0 norm+1, norm-1 norm+1, suf1+0 shape+0, suf2+0,
    suf3+0, suf4+0, pre1+0, pre2+0, pre3+0, shape+0, shape+0 caps, shape+0 caps first, shape+0 shape+1 caps,
    shape-1 shape+0 caps, suf3-1, suf3+1, suf2+1 suf2+0, class+0, class-1 class+0, class+0 class+1,
    class-1 class+0 class+1, class+1, class+1 class+2, class+0 class+1 class+2, tail+0, class+0 norm-1,
    class+0 norm+1
    """,
)
TAGGER_DYNAMIC = Templates(
    "tagger history",
    TAGGER_ATOMS + ("tag1", "tag2"),
    """
    tag1, tag1 tag2, tag1 lower+0, tag1 suf3+0, tag1 class+0, tag1 class+0 class+1, tag1 tag2 class+0, tag1 norm+1
    """,
)
EDGE_ATOMS = tuple(atom(f"edge {name}") for name in WORD_ATOMS)
CAPS_ATOMS = (atom("no capitals"), atom("capitals"))
FIRST_ATOMS = (atom("inside"), atom("first"))


def has_capitals(words: Sequence[str]) -> bool:
    """Say whether the text uses capitals at all: in a lower-case prompt a small letter means nothing."""
    return any(w != w.lower() for w in words)


PARSER_ATOMS = (
    "s0w s0t s1w s1t s2w s2t b0w b0t b1w b1t b2t b3t p0t s0lw s0lt s0rw s0rt s0l2t s0r2t s1lw s1lt s1rw s1rt s1r2t "
    "b0lw b0lt b0l2t s0vl s0vr s1vr b0vl d0 d1 c0 c1 n1t m1t"
)
"""s, b: stack from the top, buffer; w, t: word, tag; l, r: outermost child; v: valency; d: distance; c: commas
between; p0: word before the buffer; n1: word after s0; m1: word before s0."""

PARSER = Templates(
    "parser",
    PARSER_ATOMS.split(),
    """
    s0t, s0w s0t, s1t, s1w s1t, b0t, b0w b0t, b1t, b1w b1t, b2t, s2t, b1t b2t b3t, s0w b0w, s0t b0t, b0t b1t,
    s0w b0t, s0t b0w, s0w s1w, s0t s1t, s0w s1t, s0t s1w, s1t b0t, s1w b0w, b0t b1t b2t, s0t b0t b1t, s1t s0t b0t,
    s2t s1t s0t, s0w b0t b1t, s1t s0w b0t, s1w s0t b0t, s1t s0t b0w, s1t s0t b0t b1t, s2t s1t s0t b0t,
    s0t b0t b1t b2t, s0t b0t b1w, s0t s0lt b0t, s0t s0rt b0t, s0t b0t b0lt, s1t s1lt s0t, s1t s1rt s0t,
    s1t s0t s0lt, s1t s0t s0rt, s0t s0lt s0l2t, s0t s0rt s0r2t, b0t b0lt b0l2t, s1t s1rt s1r2t, s0rt s0t s1t b0t,
    s0lt s0t s1t b0t, s0w d0, s0t d0, b0t d0, s0t b0t d0, s1t s0t d1, s1w s0t d1, s0w s0vr, s0t s0vr, s0t s0vl,
    b0t b0vl, s1t s1vr, s1w s1vr s0t, s0t s0vr b0t, s1t s1vr s0t s0lw, s0lw s0t s1t, s0lw s1w, s0lw s0w s1w,
    s0lw s0t s1t s2t, s0lw s1w s2t, s2w s0lw s1t, s0lw s0t b0t, s0lw s0t s1lw s1t, s0rw s0t b0t, s1rw s1t s0t,
    s1lw s1t s0t, b0lw b0t s0t, b0lw s0w, b0lw s0t s1t, s0lw s1t s1rw, c0 s0t b0t, c1 s1t s0t, c0 s0t b0t b1t,
    c1 s1t s0t s0lw, c1 s1t s0t b0t, c0 s0t b0t b0lt, c1 s2t s1t s0t, c0 s0w, c0 b0w, p0t b0t s0t, n1t s0t b0t,
    m1t s0t b0t, m1t s0t s1t, s1t m1t s0t n1t
    """,
)

NUMBER_ATOMS = np.array([atom(f"number {k}") for k in range(12)], dtype=np.uint32)
NO_WORD, NO_TAG = atom("no word"), atom("no tag")
ROOT_WORD, ROOT_TAG = atom("root word"), atom("root tag")
MOST_CHILDREN, MOST_COMMAS = 3, 2
DISTANCE = np.array([0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 7] + [8] * 590, dtype=np.int64)
"""Distance in words -> class."""

COMMAS = frozenset({",", ";", ":", "|", ".", "-", "--", "\u2013", "\u2014", "(", ")"})

LABELLER_ATOMS = "dw dt hw ht d-t d+t h-t h+t d+w d-w dlw dlt drt hlt hrt hlw side first last comma gt gap dvl"
LABELLER = Templates(
    "labeller",
    LABELLER_ATOMS.split(),
    """
    dw, dt, hw side, ht side, dw dt, dw ht side, dt hw side, dt ht side, dw hw side, dt ht side gap,
    dt ht d-t side, dt ht d+t side, dt ht h-t side, dt ht h+t side, dw d+w, dw d-w, dlw dt ht side, dlw dt hw,
    dlt dt ht side, drt dt ht, dt ht hlt side, dt ht hrt side, dt ht side first, dt ht side last, dt ht comma side,
    dw ht comma, dt ht gt side, dt hw hlw side, dt ht side first hlt, dt dvl ht side, dlw dw ht,
    hw dt side first comma
    """,
)


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
        before_tag, before_word = (t[i - 1], w[i - 1]) if i else (NO_TAG, NO_WORD)
        out += (w[i], t[i], hw, ht, before_tag, t[i + 1], h_before, h_after, w[i + 1], before_word)
        out += (w[left], t[left], t[right], h_left_tag, h_right_tag, h_left_word)
        out += (_N[side], _N[first[head] == i], _N[last[head] == i], _N[comma], upper, _N[gap], _N[min(before[i], 3)])
    return np.frombuffer(array("I", out), dtype=np.uint32).reshape(count, -1)
