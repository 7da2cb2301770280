"""NLTK's tagger, and a dependency forest from its tags alone: noun chunks, then rules for what hangs where."""

from collections.abc import Sequence
from typing import Any

from grefine.errors import ConfigError, WeightsMissing
from grefine.text.backend import Analysis, universal
from grefine.text.forest import BREAKS

_NOUN = frozenset({"NN", "NNS", "NNP", "NNPS"})
_INSIDE = (
    frozenset({"DT", "PDT", "PRP$", "WP$", "JJ", "JJR", "JJS", "CD", "RB", "RBR", "RBS", "HYPH", "AFX", "$"}) | _NOUN
)
_VERB = frozenset({"VB", "VBD", "VBG", "VBN", "VBP", "VBZ", "MD"})
_FINITE = frozenset({"VBD", "VBP", "VBZ", "MD", "VB"})
_PREPOSITION = frozenset({"IN", "TO", "RP"})
_MODIFIER = {"DT": "det", "PDT": "det:predet", "PRP$": "nmod:poss", "WP$": "nmod:poss", "CD": "nummod"}


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
        chunks = self._chunks()
        i, count = 0, len(self.words)
        pending: list[int] = []
        conjunction = -1
        while i < count:
            tag, word = self.tags[i], self.words[i]
            if i in chunks:
                end, head = chunks[i]
                self._inside(i, end, head)
                self._attach(head, pending, conjunction)
                pending, conjunction = [], -1
                i = end
                continue
            if word in BREAKS:
                self._punctuation(i)
                self.verb, pending, conjunction = -1, [], -1
            elif tag == "CC":
                conjunction = i
            elif tag in _PREPOSITION:
                pending.append(i)
            elif tag in _VERB:
                self._verb(i, conjunction)
                conjunction = -1
            elif tag in ("JJ", "RB", "CD") or any(c.isalnum() for c in word):
                self._loose(i)
            else:
                self._punctuation(i)
            i += 1
        for k in pending:
            self._loose(k)
        tags = [universal(t, w, label) for t, w, label in zip(self.tags, self.words, self.labels, strict=True)]
        return Analysis(tags, self.heads, self.labels)

    def _chunks(self) -> dict[int, tuple[int, int]]:
        """Return chunk start -> (end, head): modifiers, then nouns, the last one heading."""
        found: dict[int, tuple[int, int]] = {}
        i, count = 0, len(self.words)
        while i < count:
            if not self._opens(i):
                i += 1
                continue
            end, head = i, -1
            while end < count and self.words[end] not in BREAKS and self._continues(end, head):
                head = end if self.tags[end] in _NOUN else head
                end += 1
            if head >= 0:
                found[i] = (head + 1, head)
                i = head + 1
            else:
                i += 1
        return found

    def _opens(self, i: int) -> bool:
        tag = self.tags[i]
        if tag in _INSIDE:
            return True
        clause_before = i > 0 and (self.tags[i - 1] in _NOUN or self.tags[i - 1] in _VERB)
        return tag in ("VBN", "VBG") and not clause_before and self._noun_follows(i)

    def _continues(self, i: int, head: int) -> bool:
        """Say whether word `i` belongs to the chunk before it, whose last noun is `head`, or -1."""
        tag, before = self.tags[i], self.tags[i - 1] if i else ""
        if tag in _NOUN or (tag == "POS" and head == i - 1 and i + 1 < len(self.tags)):
            return True
        if head >= 0 and (tag in ("DT", "PRP$", "PDT") or (before != "POS" and not self._noun_follows(i))):
            return False
        if tag == "CC":
            joined = {before, *self.tags[i + 1 : i + 2]} <= {"JJ", "CD", "VBN"}
            return joined and self._noun_follows(i + 1)
        return self._noun_follows(i) if tag in ("VBN", "VBG") else tag in _INSIDE

    def _noun_follows(self, i: int) -> bool:
        """Say whether word `i` modifies: only modifiers and then a noun follow, no determiner."""
        between = ("JJ", "JJR", "JJS", "CD", "VBN", "VBG", "HYPH", "CC", "RB")
        return next((tag for tag in self.tags[i + 1 : i + 5] if tag not in between), "") in _NOUN

    def _inside(self, start: int, end: int, head: int) -> None:
        owner = -1
        for k in range(start, end):
            tag = self.tags[k]
            if k == head:
                continue
            if tag == "POS":
                self.hang(k, k - 1, "case")
                owner = k - 1
            elif tag in _NOUN:
                self.hang(k, head, "compound")
            elif tag in ("RB", "RBR", "RBS") and k + 1 < end:
                self.hang(k, k + 1, "advmod")
            elif tag == "CC":
                self.hang(k, k + 1, "cc")
            else:
                self.hang(k, head, _MODIFIER.get(tag, "amod"))
        if owner >= 0:
            self.hang(owner, head, "nmod:poss")
            for k in range(start, owner):
                if self.heads[k] == head:
                    self.heads[k] = owner

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
        elif self.verb >= 0 and self.verb < head:
            self.hang(head, self.verb, "obj")
        elif self.first >= 0:
            self.hang(head, self.first, "list")
        if conjunction >= 0:
            self.hang(conjunction, head, "cc")
        if self.first < 0:
            self.first = head
        self.noun = head

    def _verb(self, i: int, conjunction: int) -> None:
        tag, following = self.tags[i], self.tags[i + 1] if i + 1 < len(self.tags) else ""
        helper = (
            tag == "MD"
            or universal(tag, self.words[i]) == "AUX"
            or (tag in _FINITE and self.words[i] in ("has", "have"))
        )
        if helper and following in _VERB:
            self.labels[i] = "aux"
            self.heads[i] = i + 1
            self.verb = i
            return
        if self.noun >= 0:
            if tag in _FINITE and self.heads[self.noun] == -1:
                self.hang(self.noun, i, "nsubj")
            else:
                before = self.words[i - 1] in BREAKS if i else False
                self.hang(i, self.first if before else self.noun, "acl")
        if conjunction >= 0:
            self.hang(conjunction, i, "cc")
        self.verb = i

    def _punctuation(self, i: int) -> None:
        if self.noun >= 0:
            self.hang(i, self.noun, "punct")

    def _loose(self, i: int) -> None:
        above = self.verb if self.verb >= 0 and self.tags[i][:2] == "RB" else self.noun
        if above >= 0:
            self.hang(i, above, "advmod" if self.tags[i][:2] == "RB" else "amod")


DATA = "averaged_perceptron_tagger_eng"


class NltkBackend:
    """Penn tags by NLTK's averaged perceptron, the tree by `chunks.ChunkTree`."""

    name = "nltk"

    def __init__(self, tagger: Any = None) -> None:
        """Load NLTK's tagger, or take another object whose `tag(words)` gives (word, Penn tag) pairs."""
        self._tagger = tagger if tagger is not None else _load()

    def analyse(self, words: Sequence[str]) -> Analysis:
        """Tag and parse `words`."""
        if not words:
            return Analysis([], [], [])
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
        raise WeightsMissing(
            f"The parser 'nltk' needs NLTK's data '{DATA}', which is not on this machine: run"
            f" `python -m nltk.downloader {DATA}`, or use the parser 'embedded'."
        ) from error
