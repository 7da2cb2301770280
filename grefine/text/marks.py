"""Which phrases are excluded by the prompt, and which cannot be drawn: a shipped word list that can be extended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from grefine.errors import ConfigError, nearest

KINDS = ("quality", "style", "camera", "medium", "negator", "preposition", "clinging", "pattern", "tag", "about")
KINDS += ("state", "lettering")
UNDRAWN = ("quality", "style", "camera")
"""Kinds that are never drawable; "medium" is so only where it is the picture itself."""
_SHIPPED = tuple(Path(__file__).parent / "words" / name for name in ("marks.txt", "tags.txt"))
_GOVERNED = frozenset({"obj", "iobj", "nsubj", "nsubj:pass", "obl:agent"})


@dataclass(frozen=True)
class WordList:
    """Marking words by kind, one of KINDS."""

    entries: Mapping[str, frozenset[str]]
    longest: Mapping[str, int] = field(init=False)
    """Words in the longest entry of each kind."""
    starts: Mapping[str, frozenset[str]] = field(init=False)
    """First words of the entries of several words."""

    def __post_init__(self) -> None:
        longest = {kind: max((entry.count(" ") + 1 for entry in self.entries[kind]), default=0) for kind in KINDS}
        starts = {kind: frozenset(e.split()[0] for e in self.entries[kind] if " " in e) for kind in KINDS}
        object.__setattr__(self, "longest", longest)
        object.__setattr__(self, "starts", starts)

    @classmethod
    @cache
    def shipped(cls) -> "WordList":
        """Return the list that comes with the package."""
        marks, tags = map(cls.read, _SHIPPED)
        return marks.joined(tags)

    @classmethod
    def read(cls, path: str | Path) -> "WordList":
        """Read a list in the form of the shipped one: `[kind]` lines, then one entry a line; `#` comments."""
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"Cannot read the word list '{path}': {error}.") from error
        found: dict[str, set[str]] = {kind: set() for kind in KINDS}
        kind = ""
        for number, line in enumerate(lines, 1):
            entry = line.split("#")[0].strip().lower()
            kind = entry.strip("[] ") if entry.startswith("[") else kind
            if entry and kind not in found:
                raise ConfigError(f"'{path}' line {number}: unknown list '{kind}'{nearest(kind, KINDS)}")
            if entry and not entry.startswith("["):
                found[kind].add(" ".join(entry.split()))
        return cls({kind: frozenset(words) for kind, words in found.items()})

    def joined(self, other: "WordList") -> "WordList":
        """Return a list with the entries of both."""
        return WordList({kind: self.entries[kind] | other.entries[kind] for kind in KINDS})

    def matches(self, kind: str, words: Sequence[str], head: str) -> bool:
        """Say whether the head noun is an entry, or the words hold one of several words; all in lower case."""
        return _entry(head, self.entries[kind]) or bool(self.covered(kind, words))

    def covered(self, kind: str, words: Sequence[str]) -> set[int]:
        """Return the places of `words` (lower case) that lie in an entry of several words."""
        out: set[int] = set()
        starts, entries, count = self.starts[kind], self.entries[kind], len(words)
        if starts.isdisjoint(words):
            return out
        for first, word in enumerate(words):
            if word in starts:
                for end in range(first + 2, min(first + self.longest[kind], count) + 1):
                    if " ".join(words[first:end]) in entries:
                        out.update(range(first, end))
        return out


def _entry(word: str, entries: frozenset[str]) -> bool:
    return word in entries or (len(word) > 3 and word[-1] == "s" and word[:-1] in entries)


def is_drawable(
    words: Sequence[str], noun: str, label: str, introduced: bool, agent: bool, topmost: bool, listed: WordList
) -> bool:
    """Say whether a phrase names a thing that can be seen missing."""
    if agent or any(_entry(noun, listed.entries[kind]) for kind in UNDRAWN):
        return False
    is_medium = (topmost or label == "compound") and not introduced and label not in _GOVERNED
    return not (is_medium and listed.matches("medium", words, noun))


def negated_tokens(
    words: Sequence[str], tags: Sequence[str], heads: Sequence[int], labels: Sequence[str], listed: WordList
) -> set[int]:
    """Return the tokens that the prompt excludes: "no people", "without a hat or gloves", "not wearing shoes"."""
    negators = listed.entries["negator"]
    out: set[int] = set()
    if negators.isdisjoint(words) and listed.starts["negator"].isdisjoint(words):
        return out
    for i, word in enumerate(words):
        if word not in negators and not (i + 1 < len(words) and f"{word} {words[i + 1]}" in negators):
            continue
        head = heads[i]
        if labels[i] in ("case", "det", "advmod", "cc", "mark", "fixed") and head >= 0:
            if labels[i] == "advmod" and head < i and tags[head] in ("NOUN", "PROPN"):
                continue
            out.add(head)
            if tags[head] in ("VERB", "ADJ", "AUX"):
                out.update(
                    c for c, h in enumerate(heads) if h == head and c > i and labels[c] in ("obj", "obl", "xcomp")
                )
        elif tags[i] in ("VERB", "ADJ"):
            out.update(c for c, h in enumerate(heads) if h == i and c > i and labels[c] in ("obj", "obl"))
    # What is coordinated with an excluded thing is excluded, within the same comma-free stretch.
    for i, head in enumerate(heads):
        if head in out and head < i and labels[i] == "conj" and "," not in words[head:i]:
            out.add(i)
    return out
