"""First working backend: closed-class words and endings, then the chunk rules."""

from __future__ import annotations

from collections.abc import Sequence

from grefine.text.backend import Analysis
from grefine.text.chunks import ChunkTree

_WORDS = {
    "DT": "a an the this that these those some any no each every another all both",
    "IN": "of in on at by for with without from into onto over under above below between behind near beside through"
    " across past around against along inside outside beneath like as during amid among toward towards",
    "TO": "to",
    "CC": "and or but",
    "PRP$": "his her its their my your our",
    "PRP": "he she it they him them we i you me us",
    "WDT": "that which",
    "CD": "one two three four five six seven eight nine ten",
    "JJ": "red green blue yellow orange purple pink black white grey gray brown golden striped checkered dotted plain big"
    " small tiny large huge old young long short tall wide next left right night-time beautiful dark light bright high"
    " low soft warm cold wooden striped silver",
    "VBZ": "is has sits stands runs walks holds looks",
    "VBP": "are",
    "RB": "very highly extremely not",
}
_LEXICON = {word: tag for tag, words in _WORDS.items() for word in words.split()}


class EmbeddedBackend:
    """The parser that comes with the package."""

    name = "embedded"

    def analyse(self, words: Sequence[str]) -> Analysis:
        """Tag and parse `words`."""
        return ChunkTree(words, [_tag(w) for w in words]).analyse()


def _tag(word: str) -> str:
    lower = word.lower()
    if lower in _LEXICON:
        return _LEXICON[lower]
    if not any(c.isalnum() for c in word):
        return "," if word == "," else "."
    if lower in ("'s", "\u2019s"):
        return "POS"
    if word[0].isdigit():
        return "CD"
    for ending, tag in (("ing", "VBG"), ("ed", "VBN"), ("ly", "RB"), ("ful", "JJ"), ("ous", "JJ"), ("ish", "JJ")):
        if len(lower) > len(ending) + 2 and lower.endswith(ending):
            return tag
    return "NNS" if lower.endswith("s") and not lower.endswith("ss") else "NN"
