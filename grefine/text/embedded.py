"""The parser that comes with the package: tagger, arc-hybrid parser and labeller over hashed tables; numpy only."""

import json
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from grefine.errors import WeightsCorrupt, WeightsMissing
from grefine.text.backend import Analysis, universal
from grefine.text.features import (
    CAPS_ATOMS,
    COMMAS,
    DISTANCE,
    EDGE_ATOMS,
    FIRST_ATOMS,
    LABELLER,
    MOST_CHILDREN,
    MOST_COMMAS,
    NO_TAG,
    NO_WORD,
    NUMBER_ATOMS,
    PARSER,
    ROOT_TAG,
    ROOT_WORD,
    TAGGER_DYNAMIC,
    TAGGER_STATIC,
    WORD_ATOMS,
    Lexicon,
    atom,
    has_capitals,
    labeller_atoms,
    number_form,
)

MOST_KNOWN = 20_000
"""Words whose hashed views are kept."""

SHIPPED = Path(__file__).parent / "weights" / "parser.npz"


@dataclass(frozen=True, slots=True)
class ParserWeights:
    """What training leaves: tables, vocabulary, and where they come from."""

    tables: dict[str, np.ndarray]
    """tagger (rows, tags) int16, parser (rows, 2) int8: left and right against shift, labeller (rows, labels) int8."""
    tags: list[str]
    labels: list[str]
    classes: dict[str, str]
    """Known words and their usual tags, see `features.Lexicon`."""
    endings: dict[str, str]
    about: dict[str, Any]
    """Seed, data, licence: for the reader, not for the parser."""


def read_weights(path: Path) -> ParserWeights:
    """Read an .npz file: per table a bit for each cell that is not zero, and what stands there; the rest as JSON."""
    retrain = "reinstall grefine, or make it anew with `python -m lab train parser --ud DIR` in a source tree."
    try:
        with np.load(path, allow_pickle=False) as file:
            told = json.loads(file["told"].tobytes())
            if told.pop("features") != features_signature():
                raise WeightsCorrupt(f"'{path}' was trained for other features than this version's: {retrain}")
            tables = {}
            for name, shape in told.pop("shapes").items():
                values = file[f"{name} values"]
                table = np.zeros(shape, values.dtype)
                table.ravel()[np.unpackbits(file[f"{name} places"], count=table.size).view(bool)] = values
                tables[name] = table
        return ParserWeights(tables, **told)
    except FileNotFoundError as error:
        raise WeightsMissing(f"The parser's weights '{path}' are missing: {retrain}") from error
    except (ValueError, LookupError, TypeError, OSError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        raise WeightsCorrupt(f"'{path}' is no parser file that can be read ({error}): {retrain}") from error


def features_signature() -> int:
    """Return a number that changes with the templates: weights fit only the rows they were trained on."""
    total = 0
    for templates in (TAGGER_STATIC, TAGGER_DYNAMIC, PARSER, LABELLER):
        total = zlib.crc32(templates.matrix.astype("<u4").tobytes(), total)
    return total


class EmbeddedBackend:
    """Greedy tagging and parsing with the shipped weights, or with those of another file."""

    name = "embedded"

    def __init__(self, weights: ParserWeights | Path | None = None) -> None:
        loaded = weights if isinstance(weights, ParserWeights) else read_weights(weights or SHIPPED)
        self.lexicon = Lexicon(loaded.classes, loaded.endings)
        self.tagger = GreedyTagger(loaded.tables["tagger"], loaded.tags, self.lexicon)
        self.parser = ArcParser(loaded.tables["parser"])
        self.labels = loaded.labels
        self._labeller = loaded.tables["labeller"]
        self._label_shift = _shift(self._labeller)
        self._tag_atoms = {tag: atom("tag " + tag) for tag in loaded.tags}

    def analyse(self, words: Sequence[str]) -> Analysis:
        """Tag and parse `words`."""
        if not words:
            return Analysis([], [], [])
        penn = self.tagger.tag(words)
        norms = [self.lexicon.atoms(w)[0] for w in words]
        tags = [self._tag_atoms[t] for t in penn]
        heads = self.parser.heads(words, norms, tags)
        labels = self.label(words, norms, tags, heads)
        return Analysis(
            [universal(t, w.lower(), x) for t, w, x in zip(penn, words, labels, strict=True)], heads, labels
        )

    def penn_tags(self, words: Sequence[str]) -> list[str]:
        """Return the Penn Treebank tags that `analyse` parses from."""
        return self.tagger.tag(words) if words else []

    def label(self, words: Sequence[str], norms: list[int], tags: list[int], heads: list[int]) -> list[str]:
        """Return the relation of each word to its head."""
        atoms, matrix = labeller_atoms(words, norms, tags, heads), LABELLER.matrix
        rows = (atoms @ matrix[:, :-1].T + matrix[:, -1]) >> self._label_shift
        best = self._labeller.take(rows, axis=0).sum(axis=1, dtype=np.int16).argmax(axis=1)
        return [self.labels[k] for k in best.tolist()]


@cache
def embedded() -> EmbeddedBackend:
    """Return the parser with the shipped weights, loaded once."""
    return EmbeddedBackend()


class GreedyTagger:
    """Penn tags from left to right."""

    def __init__(self, table: np.ndarray, tags: list[str], lexicon: Lexicon) -> None:
        self.table, self.tags, self.lexicon = table, tags, lexicon
        self._shift = _shift(table)
        self._index = {t: k for k, t in enumerate(tags)}
        history = np.array([atom("tag " + t) for t in tags] + [atom("tag edge")], dtype=np.uint32)
        matrix = TAGGER_DYNAMIC.matrix
        one = history[:, None] * matrix[:, TAGGER_DYNAMIC.atoms["tag1"]]
        two = history[:, None] * matrix[:, TAGGER_DYNAMIC.atoms["tag2"]]
        # Both tags before a word, as one table.
        self._history = one[:, None, :] + two[None, :, :]
        width = TAGGER_STATIC.matrix.shape[1] - 1
        both = np.concatenate([TAGGER_STATIC.matrix, np.delete(matrix, np.s_[width : width + 2], axis=1)], axis=0)
        size = len(WORD_ATOMS)
        # What a word adds to the rows of each word of its window does not change, so it is kept.
        self._by_place = both[:, : 5 * size].reshape(len(both), 5, size).transpose(1, 0, 2)
        self._constant = [both[:, 5 * size] * np.uint32(caps) + both[:, -1] for caps in CAPS_ATOMS]
        self._inside, self._first = (both[:, 5 * size + 1] * np.uint32(a) for a in FIRST_ATOMS)
        self._shares = lru_cache(MOST_KNOWN)(self._share)
        self._edge = (self._by_place @ np.array(EDGE_ATOMS, dtype=np.uint32)).tobytes()

    def _share(self, word: str) -> bytes:
        return (self._by_place @ np.array(self.lexicon.atoms(word), dtype=np.uint32)).tobytes()

    def tag(self, words: Sequence[str]) -> list[str]:
        """Return one tag per word."""
        certain = [self.lexicon.certain.get(number_form(w.lower())) for w in words]
        open_ = [i for i, t in enumerate(certain) if t is None]
        if not open_:
            return [t or "" for t in certain]
        count, edge = len(words), self._edge
        joined = b"".join([edge, edge, *map(self._shares, words), edge, edge])
        shares = np.frombuffer(joined, dtype=np.uint32).reshape(count + 4, 5, -1)
        linear = self._constant[has_capitals(words)] + self._inside
        linear = shares[:count, 0] + linear
        for k in range(1, 5):
            linear += shares[k : k + count, k]
        linear[0] += self._first - self._inside
        linear = linear[open_]
        cut = len(TAGGER_STATIC)
        static = self.table.take(linear[:, :cut] >> self._shift, axis=0).sum(axis=1, dtype=np.int16)
        moving, table, shift, history = linear[:, cut:], self.table, self._shift, self._history
        index, names = self._index, self.tags
        before, last, k, out = len(names), len(names), 0, []
        for sure in certain:
            if sure is not None:
                found = index[sure]
            else:
                rows = (moving[k] + history[last, before]) >> shift
                found = int((np.add.reduce(table.take(rows, axis=0), axis=0, dtype=np.int16) + static[k]).argmax())
                k += 1
            before, last = last, found
            out.append(names[found])
        return out


class ArcParser:
    """Arc-hybrid transitions, the best one each time. The same system as in training, for one prompt."""

    def __init__(self, table: np.ndarray) -> None:
        # Both scores of a row as one number, so that one sum adds both and a small table stays in the cache.
        wide = table.astype(np.int32)
        self._packed = wide[:, 0] + (wide[:, 1] << _FIELD)
        self._shift = _shift(table)
        self._matrix = np.ascontiguousarray(PARSER.matrix.T)

    def heads(self, words: Sequence[str], norms: Sequence[int], tags: Sequence[int]) -> list[int]:
        """Return the governor of each word, -1 for roots."""
        n = len(words)
        w = [*norms, ROOT_WORD, NO_WORD, NO_WORD, NO_WORD, NO_WORD]
        t = [*tags, ROOT_TAG, NO_TAG, NO_TAG, NO_TAG, NO_TAG]
        commas, total = [0], 0
        for word in words:
            total += word in COMMAS
            commas.append(total)
        number, distance = _NUMBER, _DISTANCE
        l1, l2, r1, r2 = ([-1] * (n + 1) for _ in range(4))
        n_left, n_right = [0] * (n + 1), [0] * (n + 1)
        out = [-1] * n
        stack = [-1, -1, -1]
        b = 0
        packed, matrix, shift = self._packed, self._matrix, self._shift
        while b < n or len(stack) > 3:
            s2, s1, s0 = stack[-3:]
            if s0 == -1:
                action = 0
            elif b == n and s1 == -1:
                action = 1
            else:
                s0l, s0r = l1[s0], r1[s0]
                b0l = l1[b]
                if s1 >= 0:
                    s1l, s1r, s1r2 = l1[s1], r1[s1], r2[s1]
                    vr1, d1, c1 = n_right[s1], distance[s0 - s1], commas[s0] - commas[s1 + 1]
                    c1 = c1 if c1 < MOST_COMMAS else MOST_COMMAS
                else:
                    s1l = s1r = s1r2 = -1
                    vr1, d1, c1 = 0, 9, 3
                c0 = commas[b] - commas[s0 + 1]
                c0 = c0 if c0 < MOST_COMMAS else MOST_COMMAS
                # fmt: off
                atoms = array("I", (
                    w[s0], t[s0], w[s1], t[s1], w[s2], t[s2],
                    w[b], t[b], w[b + 1], t[b + 1], t[b + 2], t[b + 3], t[b - 1],
                    w[s0l], t[s0l], w[s0r], t[s0r], t[l2[s0]], t[r2[s0]],
                    w[s1l], t[s1l], w[s1r], t[s1r], t[s1r2], w[b0l], t[b0l], t[l2[b]],
                    number[n_left[s0]], number[n_right[s0]], number[vr1], number[n_left[b]],
                    number[distance[b - s0]], number[d1], number[c0], number[c1],
                    t[s0 + 1], t[s0 - 1] if s0 else NO_TAG, 1,
                ))
                # fmt: on
                rows = np.frombuffer(atoms, dtype=np.uint32) @ matrix >> shift
                action = _best(int(np.add.reduce(packed.take(rows))), b < n, s1 >= 0)
            if action == 0:
                stack.append(b)
                b += 1
                continue
            child = stack.pop()
            if action == 1:
                head = b
                l2[head], l1[head] = l1[head], child
                if n_left[head] < MOST_CHILDREN:
                    n_left[head] += 1
            else:
                head = stack[-1]
                r2[head], r1[head] = r1[head], child
                if n_right[head] < MOST_CHILDREN:
                    n_right[head] += 1
            out[child] = head if head < n else -1
        return out


_FIELD = 16
_HALF, _FULL = 1 << _FIELD - 1, 1 << _FIELD
_NUMBER = [int(x) for x in NUMBER_ATOMS]
_DISTANCE = [int(x) for x in DISTANCE]


def _best(packed: int, may_shift: bool, may_right: bool) -> int:
    """Unpack how left and right differ from shift and return the best transition that is possible; first of equals."""
    left = (packed + _HALF & _FULL - 1) - _HALF
    right = packed - left >> _FIELD
    if may_shift and left <= 0:
        return 2 if may_right and right > 0 else 0
    return 2 if may_right and right > left else 1


def _shift(table: np.ndarray) -> np.uint32:
    return np.uint32(32 - (len(table).bit_length() - 1))
