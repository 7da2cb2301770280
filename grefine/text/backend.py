"""What a parser must offer to be used here, the parsers that are known by name, and the tags that they give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

from grefine.errors import ConfigError, nearest


@dataclass(slots=True)
class Analysis:
    """A dependency forest over the words of one prompt."""

    tags: list[str]
    """Universal parts of speech."""
    heads: list[int]
    """Index of the governor; -1 for a root. No cycles."""
    labels: list[str]
    """Universal dependency relations."""

    def hang(self, i: int, head: int, label: str) -> bool:
        """Hang `i` on `head` unless that would close a cycle; say whether it was done."""
        at = head
        while at != -1:
            if at == i:
                return False
            at = self.heads[at]
        self.heads[i], self.labels[i] = head, label
        return True


@runtime_checkable
class Backend(Protocol):
    """A tagger and parser with universal tags and relations; all the rest lies above it and is shared."""

    name: str

    def analyse(self, words: Sequence[str]) -> Analysis:
        """Tag and parse `words`; must accept any strings and return one entry per word."""
        ...


_known: dict[str, Callable[[], Backend]] = {}


def register_backend(name: str, factory: Callable[[], Backend]) -> None:
    """Make `factory` available as `parse(..., backend=name)`; it is called once, at first use."""
    _known[name] = cache(factory)


def load_backend(backend: str | Backend) -> Backend:
    """Return the backend that a name means, or the object itself when it is one."""
    if isinstance(backend, str) and backend in _known:
        return _known[backend]()
    if isinstance(backend, Backend):
        return backend
    raise ConfigError(
        f"No parser {backend!r:.60}: accepted are {', '.join(sorted(_known))}, a name given to register_backend, or an"
        f" object with `name` and `analyse`{nearest(str(backend), _known)}"
    )


def checked(analysis: Analysis, count: int, name: str) -> Analysis:
    """Hold a foreign backend to its promise: one entry per word, heads inside, no cycles."""
    sizes = {len(analysis.tags), len(analysis.heads), len(analysis.labels)}
    if sizes != {count}:
        raise ConfigError(f"Parser '{name}' returned {sorted(sizes)} entries for {count} words: return one for each.")
    for start in range(count):
        at, steps = start, 0
        while at != -1:
            at, steps = analysis.heads[at], steps + 1
            if not -1 <= at < count or steps > count:
                raise ConfigError(f"Parser '{name}' returned head {at} of {count} words, or a cycle: return a forest.")
    return analysis


_UNIVERSAL = {
    "ADJ": "JJ JJR JJS AFX",
    "ADP": "IN RP",
    "ADV": "RB RBR RBS WRB",
    "AUX": "MD",
    "CCONJ": "CC",
    "DET": "DT PDT WDT",
    "INTJ": "UH",
    "NOUN": "NN NNS",
    "NUM": "CD",
    "PART": "POS TO",
    "PRON": "PRP PRP$ WP WP$ EX",
    "PROPN": "NNP NNPS",
    "PUNCT": ". , : `` '' -LRB- -RRB- HYPH NFP ( )",
    "SYM": "SYM $ #",
    "VERB": "VB VBD VBG VBN VBP VBZ",
}
UNIVERSAL = {penn: tag for tag, names in _UNIVERSAL.items() for penn in names.split()}

_BE = frozenset(["be", "is", "are", "was", "were", "been", "being", "am", "'s", "'re", "'m"])


def universal(penn: str, word: str, label: str = "") -> str:
    """Return the universal part of speech of a Penn tag on `word` (lower case); the relation tells auxiliaries."""
    if penn.startswith("VB"):
        if label.startswith(("aux", "cop")) or (not label and word in _BE):
            return "AUX"
        return "VERB"
    if penn == "IN" and label == "mark":
        return "SCONJ"
    return UNIVERSAL.get(penn, "X")
