"""Train the arc-hybrid parser and the labeller of its arcs."""

from collections.abc import Sequence

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
        self,
        sentences: Sequence[Sentence],
        tags: Sequence[list[str]],
        epochs: int,
        random: np.random.RandomState,
        size: int = 64,
    ) -> None:
        """Run `epochs` times over the sentences and finish with averaged weights."""
        lengths = [len(s.words) for s in sentences]
        norms = [self._norms(s) for s in sentences]
        atoms = [tag_atoms(t) for t in tags]
        for epoch in range(epochs):
            for group in batches(lengths, size, random):
                states = States(
                    [sentences[k].words for k in group],
                    [norms[k] for k in group],
                    [atoms[k] for k in group],
                    [sentences[k].heads for k in group],
                )
                self._learn(states, epoch, random)
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

    def parse(self, sentences: Sequence[Sentence], tags: Sequence[list[str]], size: int = 64) -> list[list[int]]:
        """Return predicted heads, -1 for roots."""
        out: list[list[int]] = [[] for _ in sentences]
        order = sorted(range(len(sentences)), key=lambda k: len(sentences[k].words))
        for start in range(0, len(order), size):
            group = order[start : start + size]
            states = States(
                [sentences[k].words for k in group],
                [self._norms(sentences[k]) for k in group],
                [tag_atoms(tags[k]) for k in group],
            )
            while len(r := states.active()):
                scores = np.where(states.legal(r), self.table.scores(self._rows(states, r)), -np.inf)
                states.move(r, scores.argmax(axis=1))
            for row, k in enumerate(group):
                n = len(sentences[k].words)
                out[k] = [-1 if h == n else int(h) for h in states.heads[row, :n]]
        return out

    def _rows(self, states: States, r: np.ndarray) -> np.ndarray:
        matrix = PARSER.matrix
        return ((states.atoms(r) @ matrix[:, :-1].T + matrix[:, -1]) >> self.table.shift).astype(np.int64)

    def _norms(self, sentence: Sentence) -> np.ndarray:
        return np.array([self.lexicon.atoms(w)[0] for w in sentence.words], dtype=np.uint32)


class LabellerTrainer:
    """A classifier of finished arcs."""

    def __init__(self, labels: Sequence[str], lexicon: Lexicon, bits: int) -> None:
        self.labels = list(labels)
        self.index = {label: k for k, label in enumerate(labels)}
        self.lexicon = lexicon
        self.table = AveragedTable(bits, len(labels))

    def train(
        self,
        sentences: Sequence[Sentence],
        tags: Sequence[list[str]],
        epochs: int,
        random: np.random.RandomState,
        size: int = 256,
    ) -> None:
        """Learn from gold arcs under predicted tags."""
        rows = np.concatenate([self._rows(s.words, t, s.heads) for s, t in zip(sentences, tags, strict=True)])
        gold = np.array([self.index[label] for s in sentences for label in s.labels])
        for _ in range(epochs):
            order = random.permutation(len(gold))
            for start in range(0, len(order), size):
                k = order[start : start + size]
                found = self.table.scores(rows[k]).argmax(axis=1)
                bad = k[found != gold[k]]
                self.table.tick()
                if len(bad):
                    self.table.update(rows[bad], gold[bad], found[found != gold[k]])
        self.table.weights = self.table.average()

    def label(
        self, sentences: Sequence[Sentence], tags: Sequence[list[str]], heads: Sequence[list[int]]
    ) -> list[list[str]]:
        """Return predicted labels of given arcs."""
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
