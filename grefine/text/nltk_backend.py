"""NLTK's tagger, and a dependency forest from its tags alone: noun chunks, then rules for what hangs where."""

import re
from collections.abc import Sequence
from typing import Any

from grefine.errors import ConfigError, WeightsMissing
from grefine.text.backend import Analysis, universal
from grefine.text.forest import BREAKS

_VERB = frozenset({"VB", "VBD", "VBG", "VBN", "VBP", "VBZ", "MD"})
_MODIFIER = {"DT": "det", "PDT": "det:predet", "PRP$": "nmod:poss", "WP$": "nmod:poss", "CD": "nummod"}
_MODIFIER |= dict.fromkeys(("NN", "NNS", "NNP", "NNPS"), "compound") | dict.fromkeys(("RB", "RBR", "RBS"), "advmod")
_PLAIN = r"""<(?:JJ[RS]?|CD|RB[RS]?|HYPH|AFX|\$)>
    | (?<=JJ>|CD>|BN>)<CC>(?=<(?:JJ|CD|VBN)>)
    | (?<!NN>)(?<!NN[SP]>)(?<!NNPS>)(?<!VB.>)(?<!VB>) <VB[GN]> (?=(?:<(?:JJ[RS]?|CD|VB[GN]|HYPH|CC|RB)>){0,3}<NN)"""
_NOUNS = r"(?:<NNP?S?>)+"
_CHUNK = re.compile(rf"(?:<(?:P?DT|PRP\$|WP\$)>|{_PLAIN})* {_NOUNS} (?:(?:<POS>|{_PLAIN})+ {_NOUNS})*", re.VERBOSE)
"""Modifiers, then nouns, the last one heading; again behind a possessive."""


class ChunkTree(Analysis):
    """One pass from left to right over the tagged words of a prompt."""

    def __init__(self, words: Sequence[str], tags: Sequence[str]) -> None:
        super().__init__(list(tags), [-1] * len(words), ["root"] * len(words))
        self.words = [w.lower() for w in words]
        self.noun = -1
        """The noun that a following word may hang on."""
        self.verb = -1
        """The verb whose object or oblique may follow."""
        self.first = -1
        """The first noun of the prompt."""

    def analyse(self) -> Analysis:
        """Return the forest."""
        tagged = "".join("<,>" if w in BREAKS else f"<{t}>" for w, t in zip(self.words, self.tags, strict=True))
        spans = (found.span() for found in _CHUNK.finditer(tagged))
        chunks = {tagged.count("<", 0, start): tagged.count("<", 0, end) for start, end in spans}
        i, pending, conjunction = 0, list[int](), -1
        while i < len(self.words):
            tag, here = self.tags[i], i
            i = chunks.get(i, i + 1)
            if here in chunks:
                self._inside(here, i - 1)
                self._attach(i - 1, pending, conjunction)
                pending, conjunction = [], -1
            elif self.words[here] in BREAKS:
                self._loose(here)
                self.verb, pending, conjunction = -1, [], -1
            elif tag == "CC":
                conjunction = here
            elif tag in ("IN", "TO", "RP"):
                pending.append(here)
            elif tag in _VERB:
                self._verb(here, conjunction)
                conjunction = -1
            else:
                self._loose(here)
        for k in pending:
            self._loose(k)
        tags = [universal(t, w, label) for t, w, label in zip(self.tags, self.words, self.labels, strict=True)]
        return Analysis(tags, self.heads, self.labels)

    def _inside(self, start: int, head: int) -> None:
        """Hang the words of a chunk, from its head backwards; an owner heads what stands before it."""
        for k in range(head - 1, start - 1, -1):
            tag = self.tags[k]
            if tag == "POS":
                self.hang(k - 1, head, "nmod:poss")
                head = k - 1
                self.hang(k, head, "case")
            elif k != head:
                beside = k + 1 if tag in ("RB", "RBR", "RBS", "CC") else head
                self.hang(k, beside, "cc" if tag == "CC" else _MODIFIER.get(tag, "amod"))

    def _attach(self, head: int, pending: list[int], conjunction: int) -> None:
        for k in pending:
            self.hang(k, head, "case")
        if pending:
            of = self.words[pending[-1]] == "of"
            above = self.noun if of or self.verb < 0 else self.verb
            if above >= 0:
                self.hang(head, above, "obl" if above == self.verb else "nmod")
        elif conjunction >= 0 and self.noun >= 0:
            self.hang(head, self.noun, "conj")
        elif self.verb >= 0:
            self.hang(head, self.verb, "obj")
        elif self.first >= 0:
            self.hang(head, self.first, "list")
        if conjunction >= 0:
            self.hang(conjunction, head, "cc")
        if self.first < 0:
            self.first = head
        self.noun = head

    def _verb(self, i: int, conjunction: int) -> None:
        tag, word = self.tags[i], self.words[i]
        helps = universal(tag, word) == "AUX" or word in ("has", "have")
        self.verb = i
        if helps and self.tags[i + 1 : i + 2] and self.tags[i + 1] in _VERB:
            self.hang(i, i + 1, "aux")
            return
        if self.noun >= 0 and tag not in ("VBG", "VBN") and self.heads[self.noun] == -1:
            self.hang(self.noun, i, "nsubj")
        elif self.noun >= 0:
            self.hang(i, self.first if self.words[i - 1] in BREAKS else self.noun, "acl")
        if conjunction >= 0:
            self.hang(conjunction, i, "cc")

    def _loose(self, i: int) -> None:
        adverb = self.tags[i].startswith("RB")
        above = self.verb if adverb and self.verb >= 0 else self.noun
        if above >= 0:
            word = any(c.isalnum() for c in self.words[i])
            self.hang(i, above, "advmod" if adverb else "amod" if word else "punct")


DATA = "averaged_perceptron_tagger_eng"


class NltkBackend:
    """Penn tags by NLTK's averaged perceptron, the tree by `ChunkTree`."""

    name = "nltk"

    def __init__(self, tagger: Any = None) -> None:
        """Load NLTK's tagger, or take another object whose `tag(words)` gives (word, Penn tag) pairs."""
        self._tagger = tagger if tagger is not None else _load()

    def analyse(self, words: Sequence[str]) -> Analysis:
        """Tag and parse `words`."""
        return ChunkTree(words, self.penn_tags(words)).analyse()

    def penn_tags(self, words: Sequence[str]) -> list[str]:
        """Return NLTK's tags, which are Penn Treebank tags."""
        return [tag for _, tag in self._tagger.tag(list(words))]


def _load() -> Any:
    try:
        from nltk.tag.perceptron import PerceptronTagger
    except ImportError as error:
        raise ConfigError("The parser 'nltk' needs the package nltk: run `pip install nltk`.") from error
    try:
        return PerceptronTagger()
    except LookupError as error:
        raise WeightsMissing(f"The parser 'nltk' needs data: run `python -m nltk.downloader {DATA}`.") from error
