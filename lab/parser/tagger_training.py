"""Train the tagger: greedy from left to right, many sentences of like length at a time."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from grefine.text.features import (
    CAPS_ATOMS,
    EDGE_ATOMS,
    FIRST_ATOMS,
    TAGGER_ATOMS,
    TAGGER_DYNAMIC,
    TAGGER_STATIC,
    WORD_ATOMS,
    Lexicon,
    atom,
    has_capitals,
    number_form,
)
from lab.parser.perceptron import AveragedTable, batches
from lab.parser.treebank import Sentence

KNOWN_FROM = 3
"""Occurrences from which a word is known by itself."""

_CLOSED = frozenset("DT PDT CC PRP PRP$ MD EX WP WP$ , : . `` '' -LRB- -RRB- POS HYPH".split())  # noqa: SIM905


def build_lexicon(sentences: Sequence[Sentence]) -> Lexicon:
    """Count which tags each word takes, and what rare words with an ending take."""

    def usual(tags: Counter[str], share: float) -> str:
        ranked = sorted(tags.items(), key=lambda item: (-item[1], item[0]))
        return "|".join(tag for tag, n in ranked[:3] if n >= share * tags.total())

    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in sentences:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            counts[number_form(word[:64].lower())][tag] += 1
    classes, endings = {}, defaultdict(Counter)
    for word, tags in counts.items():
        total = tags.total()
        if total <= KNOWN_FROM:
            for tag, n in tags.items():
                endings[word[-3:]][tag] += n
        if total < KNOWN_FROM or "|" in word:
            continue
        best, n = tags.most_common(1)[0]
        if total >= 10 and n >= 0.995 * total and best in _CLOSED:
            classes[word] = best + "!"
        else:
            classes[word] = usual(tags, 0.1)
    known = {e: usual(t, 0.15) for e, t in endings.items() if t.total() >= 5}
    return Lexicon(dict(sorted(classes.items())), dict(sorted(known.items())))


class TaggerTrainer:
    """A tagger under training over a fixed list of tags."""

    def __init__(self, tags: Sequence[str], lexicon: Lexicon, bits: int) -> None:
        self.tags = list(tags)
        self.index = {t: k for k, t in enumerate(tags)}
        self.lexicon = lexicon
        self.table = AveragedTable(bits, len(tags))
        names = [atom("tag " + t) for t in tags] + [atom("tag edge")]
        history = np.array(names, dtype=np.uint32)
        matrix = TAGGER_DYNAMIC.matrix
        tag1, tag2 = TAGGER_DYNAMIC.atoms["tag1"], TAGGER_DYNAMIC.atoms["tag2"]
        self.history = history[:, None] * matrix[:, tag1], history[:, None] * matrix[:, tag2]
        self._prepared: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def _rows(self, sentence: Sentence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return static rows, unfinished dynamic rows, and the certain tag of each word or -1."""
        key = id(sentence)
        if key not in self._prepared:
            atoms = _static_atoms(sentence.words, self.lexicon)
            matrix = TAGGER_STATIC.matrix
            static = (atoms @ matrix[:, :-1].T + matrix[:, -1]) >> self.table.shift
            matrix = TAGGER_DYNAMIC.matrix
            dynamic = atoms @ matrix[:, : atoms.shape[1]].T + matrix[:, -1]
            certain = [
                self.index.get(self.lexicon.certain.get(number_form(w.lower()), ""), -1) for w in sentence.words
            ]
            self._prepared[key] = static.astype(np.int32), dynamic, np.array(certain)
        return self._prepared[key]

    def train(self, sentences: Sequence[Sentence], epochs: int, random: np.random.RandomState) -> None:
        """Run `epochs` times over the sentences and finish with averaged weights."""
        lengths = [len(s.words) for s in sentences]
        for _ in range(epochs):
            for group in batches(lengths, 32, random):
                self._batch([sentences[k] for k in group], learn=True)
        self.table.weights = self.table.average()

    def tag(self, sentences: Sequence[Sentence]) -> list[list[str]]:
        out: list[list[str]] = [[] for _ in sentences]
        order = sorted(range(len(sentences)), key=lambda k: len(sentences[k].words))
        for start in range(0, len(order), 64):
            group = order[start : start + 64]
            for k, row in zip(group, self._batch([sentences[k] for k in group], learn=False), strict=True):
                out[k] = [self.tags[t] for t in row[: len(sentences[k].words)]]
        return out

    def _batch(self, group: list[Sentence], learn: bool) -> np.ndarray:
        prepared = [self._rows(s) for s in group]
        if not learn:
            self._prepared.clear()
        count, longest = len(group), max(len(s.words) for s in group)
        static = np.zeros((count, longest, len(TAGGER_STATIC)), dtype=np.int32)
        dynamic = np.zeros((count, longest, len(TAGGER_DYNAMIC)), dtype=np.uint32)
        certain = np.full((count, longest), -2)
        gold = np.full((count, longest), -1)
        for k, (sentence, (s, d, c)) in enumerate(zip(group, prepared, strict=True)):
            n = len(sentence.words)
            static[k, :n], dynamic[k, :n], certain[k, :n] = s, d, c
            if learn:
                gold[k, :n] = [self.index.get(t, -1) for t in sentence.tags]
        edge = len(self.tags)
        out = np.full((count, longest + 2), edge)
        for i in range(longest):
            sure = certain[:, i]
            active = np.flatnonzero(sure == -1)
            out[:, i + 2] = sure
            if not len(active):
                continue
            t1, t2 = out[active, i + 1], out[active, i]
            moving = (dynamic[active, i] + self.history[0][t1] + self.history[1][t2]) >> self.table.shift
            rows = np.concatenate([static[active, i], moving.astype(np.int32)], axis=1)
            found = self.table.scores(rows).argmax(axis=1)
            out[active, i + 2] = found
            if learn:
                self.table.tick()
                right = gold[active, i]
                bad = np.flatnonzero((found != right) & (right >= 0))
                if len(bad):
                    self.table.update(rows[bad], right[bad], found[bad])
        return out[:, 2:]


def _static_atoms(words: Sequence[str], lexicon: Lexicon) -> np.ndarray:
    """Return (words, atoms) of the tagger's static view."""
    count, width = len(words), len(WORD_ATOMS)
    padded = np.array([EDGE_ATOMS, EDGE_ATOMS, *map(lexicon.atoms, words), EDGE_ATOMS, EDGE_ATOMS], dtype=np.uint32)
    out = np.empty((count, len(TAGGER_ATOMS)), dtype=np.uint32)
    for k in range(5):
        out[:, k * width : (k + 1) * width] = padded[k : k + count]
    out[:, -2] = CAPS_ATOMS[has_capitals(words)]
    out[:, -1] = FIRST_ATOMS[0]
    out[0, -1] = FIRST_ATOMS[1]
    return out
