"""The arc-hybrid transition system with its dynamic oracle, for many sentences in lockstep.

Goldberg and Nivre, "Training Deterministic Parsers with Non-Deterministic Oracles", TACL 2013; the root stands at the
end of the buffer, so that a prompt may have several.
"""

from functools import cache

import numpy as np

from grefine.text.features import (
    COMMAS,
    DISTANCE,
    MOST_CHILDREN,
    MOST_COMMAS,
    NO_TAG,
    NO_WORD,
    NUMBER_ATOMS,
    ROOT_TAG,
    ROOT_WORD,
    atom,
)

SHIFT, LEFT, RIGHT = 0, 1, 2
_PAD = 3


class States:
    """Parser states of several sentences, one row each."""

    def __init__(
        self,
        words: list[list[str]],
        norms: list[np.ndarray],
        tags: list[np.ndarray],
        gold: list[list[int]] | None = None,
    ) -> None:
        """Start with empty stacks; `gold` are heads, -1 for roots, None when only parsing."""
        count = len(words)
        self.rows = np.arange(count)
        self.n = np.array([len(w) for w in words])
        width = int(self.n.max()) + 5
        self.word = np.full((count, width), NO_WORD, dtype=np.uint32)
        self.tag = np.full((count, width), NO_TAG, dtype=np.uint32)
        commas = np.zeros((count, width), dtype=np.int64)
        self.gold = np.full((count, width), -1)
        for k in range(count):
            n = len(words[k])
            self.word[k, :n], self.tag[k, :n] = norms[k], tags[k]
            self.word[k, n], self.tag[k, n] = ROOT_WORD, ROOT_TAG
            commas[k, 1 : n + 1] = np.cumsum([w in COMMAS for w in words[k]])
            if gold is not None:
                self.gold[k, :n] = [n if h < 0 else h for h in gold[k]]
        self.commas = commas
        self.stack = np.full((count, width + _PAD), -1)
        self.top = np.full(count, _PAD)
        self.b = np.zeros(count, dtype=np.int64)
        self.heads = np.full((count, width), -1)
        self.left = np.full((2, count, width), -1)
        self.right = np.full((2, count, width), -1)
        self.n_left = np.zeros((count, width), dtype=np.int64)
        self.n_right = np.zeros((count, width), dtype=np.int64)
        self.on_stack = np.zeros((count, width), dtype=bool)

    def active(self) -> np.ndarray:
        return np.flatnonzero((self.b < self.n) | (self.top > _PAD))

    def atoms(self, r: np.ndarray) -> np.ndarray:
        """Return the parser's view (len(r), atoms) of the sentences `r`, columns as in PARSER_ATOMS."""
        w, t, top, b = self.word, self.tag, self.top[r], self.b[r]
        s0, s1, s2 = (self.stack[r, top - k] for k in (1, 2, 3))
        b1, b2, b3 = b + 1, b + 2, b + 3

        def child(table: np.ndarray, i: np.ndarray) -> np.ndarray:
            return np.where(i >= 0, table[r, i], -1)

        s0l, s0r, s0l2, s0r2 = (child(x, s0) for x in (self.left[0], self.right[0], self.left[1], self.right[1]))
        s1l, s1r, s1r2 = (child(x, s1) for x in (self.left[0], self.right[0], self.right[1]))
        b0l, b0l2 = self.left[0][r, b], self.left[1][r, b]

        def size(table: np.ndarray, i: np.ndarray) -> np.ndarray:
            return NUMBER_ATOMS[np.where(i >= 0, np.minimum(table[r, i], MOST_CHILDREN), 0)]

        def span(i: np.ndarray, j: np.ndarray) -> np.ndarray:
            return NUMBER_ATOMS[np.where(i >= 0, DISTANCE[np.minimum(j - i, 599)], 9)]

        def commas(i: np.ndarray, j: np.ndarray) -> np.ndarray:
            between = self.commas[r, j] - self.commas[r, i + 1]
            return NUMBER_ATOMS[np.where(i >= 0, np.minimum(between, MOST_COMMAS), 3)]

        def beside(i: np.ndarray, step: int) -> np.ndarray:
            return np.where((i >= 0) & (i + step >= 0), t[r, i + step], np.uint32(NO_TAG))

        return np.stack(
            [
                *(w[r, s0], t[r, s0], w[r, s1], t[r, s1], w[r, s2], t[r, s2]),
                *(w[r, b], t[r, b], w[r, b1], t[r, b1], t[r, b2], t[r, b3], beside(b, -1)),
                *(w[r, s0l], t[r, s0l], w[r, s0r], t[r, s0r], t[r, s0l2], t[r, s0r2]),
                *(w[r, s1l], t[r, s1l], w[r, s1r], t[r, s1r], t[r, s1r2], w[r, b0l], t[r, b0l], t[r, b0l2]),
                *(size(self.n_left, s0), size(self.n_right, s0), size(self.n_right, s1), size(self.n_left, b)),
                *(span(s0, b), span(s1, s0), commas(s0, b), commas(s1, s0), beside(s0, 1), beside(s0, -1)),
            ],
            axis=1,
        )

    def legal(self, r: np.ndarray) -> np.ndarray:
        """Return (len(r), 3) of what may be done."""
        return np.stack([self.b[r] < self.n[r], self.top[r] > _PAD, self.top[r] > _PAD + 1], axis=1)

    def costs(self, r: np.ndarray) -> np.ndarray:
        """Return (len(r), 3): gold arcs that each transition makes unreachable."""
        gold, b, top = self.gold[r], self.b[r], self.top[r]
        s0, s1 = self.stack[r, top - 1], self.stack[r, top - 2]
        k = np.arange(len(r))
        columns = np.arange(gold.shape[1])
        in_buffer = columns >= b[:, None]
        head0 = np.where(s0 >= 0, gold[k, s0], -2)
        headb = np.where(b < self.n[r], gold[k, b], -2)
        children0 = ((gold == s0[:, None]) & in_buffer & (s0 >= 0)[:, None]).sum(axis=1)
        stacked = self.on_stack[r]
        children_b = ((gold == b[:, None]) & stacked).sum(axis=1)
        head_in_stack = (headb >= 0) & stacked[k, headb] & (headb != s0)
        head_later = head0 > b
        return np.stack(
            [
                head_in_stack + children_b,
                children0 + head_later + ((head0 == s1) & (s1 >= 0)),
                children0 + (head0 >= b),
            ],
            axis=1,
        ).astype(np.int64)

    def move(self, r: np.ndarray, actions: np.ndarray) -> None:
        """Do one transition in each of the sentences `r`."""
        x = r[actions == SHIFT]
        self.stack[x, self.top[x]] = self.b[x]
        self.on_stack[x, self.b[x]] = True
        self.top[x] += 1
        self.b[x] += 1
        x = r[actions == LEFT]
        child, head = self.stack[x, self.top[x] - 1], self.b[x]
        self._arc(x, child, head, self.left, self.n_left)
        x = r[actions == RIGHT]
        child, head = self.stack[x, self.top[x] - 1], self.stack[x, self.top[x] - 2]
        self._arc(x, child, head, self.right, self.n_right)

    def _arc(self, x: np.ndarray, child: np.ndarray, head: np.ndarray, side: np.ndarray, count: np.ndarray) -> None:
        self.heads[x, child] = head
        side[1][x, head] = side[0][x, head]
        side[0][x, head] = child
        count[x, head] += 1
        self.on_stack[x, child] = False
        self.top[x] -= 1
        self.stack[x, self.top[x]] = -1


_tag_atom = cache(lambda tag: atom(f"tag {tag}"))


def tag_atoms(tags: list[str]) -> np.ndarray:
    return np.array([_tag_atom(tag) for tag in tags], dtype=np.uint32)
