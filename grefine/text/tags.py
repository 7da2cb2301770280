"""Whole tags that are known: some say nothing that can be drawn, some only how the subject is."""

from grefine.text.forest import BREAKS, Forest
from grefine.text.marks import WordList

_WORDS_OF_A_TAG = 5


def read_tags(forest: Forest, listed: WordList) -> None:
    """Make each listed tag a tree of its own, and note in `forest.undrawn` which say nothing that can be drawn."""
    patterns = [entry.split() for entry in listed.entries["tag"] if "*" in entry]
    start, count = 0, len(forest.words)
    while start < count:
        end = start
        while end < count and forest.words[end] not in BREAKS:
            end += 1
        if 0 < end - start <= _WORDS_OF_A_TAG and start not in forest.inside_lettering:
            words = forest.lower[start:end]
            text = " ".join(words)
            if text in listed.entries["tag"]:
                _cut_out(forest, start, end, end - 1)
            elif any(all(map(_fits, words, pattern)) for pattern in patterns if len(pattern) == len(words)):
                _cut_out(forest, start, end, start)
            elif text in listed.entries["about"]:
                for i in range(start, end):
                    forest.tags[i] = "ADJ"
        start = end + 1


def _fits(word: str, part: str) -> bool:
    return part in ("*", word)


def _cut_out(forest: Forest, start: int, end: int, head: int) -> None:
    """Make the words from `start` to `end` one noun with its words, which nothing else hangs on."""
    tops = [i for i in range(start, end) if not start <= forest.heads[i] < end]
    if len(tops) == 1 and forest.is_noun(tops[0]):
        head = tops[0]
    else:
        for i in range(start, end):
            forest.tags[i], forest.heads[i], forest.labels[i] = "ADJ", head, "amod"
        forest.tags[head] = "NOUN"
    forest.heads[head], forest.labels[head] = -1, "root"
    for i, above in enumerate(forest.heads):
        if start <= above < end and not start <= i < end:
            forest.heads[i] = head if forest.tags[i] == "PUNCT" else -1
    forest.undrawn.update(range(start, end))
