"""Train the arc-hybrid parser and the labeller of its arcs."""

from collections.abc import Iterable, Sequence

import numpy as np

from grefine.text.features import LABELLER, PARSER, Lexicon, labeller_atoms
from lab.parser.arc_hybrid import States, tag_atoms
from lab.parser.perceptron import AveragedTable, batches
from lab.parser.treebank import Sentence

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
        matrix = PARSER.matrix
        return ((states.atoms(r) @ matrix[:, :-1].T + matrix[:, -1]) >> self.table.shift).astype(np.int64)


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
        matrix = LABELLER.matrix
        return ((atoms @ matrix[:, :-1].T + matrix[:, -1]) >> self.table.shift).astype(np.int64)
