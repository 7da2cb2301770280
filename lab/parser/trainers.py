"""Train the tagger, the arc-hybrid parser and the labeller of its arcs: averaged perceptrons over hashed tables."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from grefine.text.features import (
    CAPS_ATOMS,
    EDGE_ATOMS,
    FIRST_ATOMS,
    LABELLER,
    PARSER,
    TAGGER_ATOMS,
    TAGGER_DYNAMIC,
    TAGGER_STATIC,
    WORD_ATOMS,
    Lexicon,
    Templates,
    atom,
    has_capitals,
    labeller_atoms,
    number_form,
)
from lab.parser.arc_hybrid import States, tag_atoms
from lab.parser.treebank import Sentence


class AveragedTable:
    """A (rows, classes) weight table whose average over all steps can be asked for at the end."""

    def __init__(self, bits: int, classes: int) -> None:
        self.shift = np.uint32(32 - bits)
        self.weights = np.zeros((1 << bits, classes), dtype=np.float32)
        self._late = np.zeros((1 << bits, classes), dtype=np.float32)
        self._step = 1.0

    def rows(self, templates: Templates, atoms: np.ndarray) -> np.ndarray:
        """Return which rows the templates of each example (examples, atoms) hash to."""
        matrix = templates.matrix
        return ((atoms @ matrix[:, :-1].T + matrix[:, -1]) >> self.shift).astype(np.int64)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Sum the rows (examples, templates) of each example: (examples, classes)."""
        return self.weights.take(rows, axis=0).sum(axis=1)

    def update(self, rows: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> None:
        """Raise class `right` and lower class `wrong` on the rows (examples, templates) of each example."""
        flat, width = rows.astype(np.int64), self.weights.shape[1]
        for classes, sign in ((right, 1.0), (wrong, -1.0)):
            cells = (flat * width + classes[:, None]).ravel()
            np.add.at(self.weights.reshape(-1), cells, np.float32(sign))
            np.add.at(self._late.reshape(-1), cells, np.float32(sign * self._step))

    def tick(self) -> None:
        self._step += 1.0 / 1024

    def average(self) -> np.ndarray:
        return self.weights - self._late / np.float32(self._step)


def batches(lengths: list[int], size: int, random: np.random.RandomState) -> list[np.ndarray]:
    """Return groups of sentences of like length, in random order."""
    noise = random.random_sample(len(lengths)) * 0.9
    order = np.argsort(np.asarray(lengths) + noise, kind="stable")
    groups = [order[k : k + size] for k in range(0, len(order), size)]
    return [groups[k] for k in random.permutation(len(groups))]


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
        history = np.array([atom(f"tag {tag}") for tag in (*tags, "edge")], dtype=np.uint32)[:, None]
        before = (TAGGER_DYNAMIC.matrix[:, TAGGER_DYNAMIC.atoms[name]] for name in ("tag1", "tag2"))
        self.history = [history * column for column in before]
        self._prepared: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def _rows(self, sentence: Sentence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return static rows, unfinished dynamic rows, and the certain tag of each word or -1."""
        key = id(sentence)
        if key not in self._prepared:
            atoms = _static_atoms(sentence.words, self.lexicon)
            static, matrix = self.table.rows(TAGGER_STATIC, atoms), TAGGER_DYNAMIC.matrix
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


EXPLORE = 0.9
"""How often, from the second pass on, training follows its own choice instead of the oracle's."""


class ParserTrainer:
    """An arc-hybrid parser under training. Tags are given apart, as a tagger predicts them."""

    def __init__(self, lexicon: Lexicon, bits: int) -> None:
        self.lexicon = lexicon
        self.table = AveragedTable(bits, 3)

    def train(
        self, sentences: Sequence[Sentence], tags: Sequence[list[str]], epochs: int, random: np.random.RandomState
    ) -> None:
        """Run `epochs` times over the sentences and finish with averaged weights."""
        lengths = [len(s.words) for s in sentences]
        for epoch in range(epochs):
            for group in batches(lengths, 64, random):
                self._learn(self._states(sentences, tags, group, learn=True), epoch, random)
        self.table.weights = self.table.average()

    def _learn(self, states: States, epoch: int, random: np.random.RandomState) -> None:
        while len(r := states.active()):
            legal = states.legal(r)
            choice = legal.sum(axis=1) > 1
            rows = self._rows(states, r)
            scores = np.where(legal, self.table.scores(rows), -np.inf)
            found = scores.argmax(axis=1)
            costs = np.where(legal, states.costs(r), 10_000)
            best = np.where(costs == costs.min(axis=1, keepdims=True), scores, -np.inf).argmax(axis=1)
            k = np.arange(len(r))
            self.table.tick()
            bad = np.flatnonzero(choice & (costs[k, found] > costs[k, best]))
            if len(bad):
                self.table.update(rows[bad], best[bad], found[bad])
            explore = random.random_sample(len(r)) < (EXPLORE if epoch else 0.0)
            states.move(r, np.where(explore, found, best))

    def parse(self, sentences: Sequence[Sentence], tags: Sequence[list[str]]) -> list[list[int]]:
        """Return predicted heads, -1 for roots."""
        states = self._states(sentences, tags, range(len(sentences)), learn=False)
        while len(r := states.active()):
            scores = np.where(states.legal(r), self.table.scores(self._rows(states, r)), -np.inf)
            states.move(r, scores.argmax(axis=1))
        sizes = [len(sentence.words) for sentence in sentences]
        return [[-1 if h == n else int(h) for h in row[:n]] for row, n in zip(states.heads, sizes, strict=True)]

    def _states(
        self, sentences: Sequence[Sentence], tags: Sequence[list[str]], group: Iterable[int], learn: bool
    ) -> States:
        chosen = [sentences[k] for k in group]
        norms = [np.array([self.lexicon.atoms(w)[0] for w in s.words], dtype=np.uint32) for s in chosen]
        gold = [s.heads for s in chosen] if learn else None
        return States([s.words for s in chosen], norms, [tag_atoms(tags[k]) for k in group], gold)

    def _rows(self, states: States, r: np.ndarray) -> np.ndarray:
        return self.table.rows(PARSER, states.atoms(r))


class LabellerTrainer:
    """A classifier of finished arcs."""

    def __init__(self, labels: Sequence[str], lexicon: Lexicon, bits: int) -> None:
        self.labels = list(labels)
        self.index = {label: k for k, label in enumerate(labels)}
        self.lexicon = lexicon
        self.table = AveragedTable(bits, len(labels))

    def train(
        self, sentences: Sequence[Sentence], tags: Sequence[list[str]], epochs: int, random: np.random.RandomState
    ) -> None:
        """Learn from gold arcs under predicted tags."""
        rows = np.concatenate([self._rows(s.words, t, s.heads) for s, t in zip(sentences, tags, strict=True)])
        gold = np.array([self.index[label] for s in sentences for label in s.labels])
        for _ in range(epochs):
            order = random.permutation(len(gold))
            for start in range(0, len(order), 256):
                k = order[start : start + 256]
                found = self.table.scores(rows[k]).argmax(axis=1)
                bad = k[found != gold[k]]
                self.table.tick()
                if len(bad):
                    self.table.update(rows[bad], gold[bad], found[found != gold[k]])
        self.table.weights = self.table.average()

    def label(
        self, sentences: Sequence[Sentence], tags: Sequence[list[str]], heads: Sequence[list[int]]
    ) -> list[list[str]]:
        out = []
        for sentence, t, h in zip(sentences, tags, heads, strict=True):
            best = self.table.scores(self._rows(sentence.words, t, h)).argmax(axis=1)
            out.append([self.labels[k] for k in best])
        return out

    def _rows(self, words: list[str], tags: list[str], heads: list[int]) -> np.ndarray:
        norms = [self.lexicon.atoms(w)[0] for w in words]
        atoms = labeller_atoms(words, norms, [int(a) for a in tag_atoms(tags)], heads)
        return self.table.rows(LABELLER, atoms)
