"""Text that the picture is to show: in quotation marks, or capitalised behind "says". It is read as one name."""

from collections.abc import Callable, Sequence

from grefine.text.backend import Analysis
from grefine.text.forest import BREAKS, Forest
from grefine.text.marks import WordList

_MARKS = {'"': '"', "\u2018": "\u2019", "'": "'"}
_LONGEST = 12
"""Words of lettering; more in quotation marks is a quoted prompt."""
_STAND_IN = "Text"
"""What a parser is shown in its place."""
_BEHIND = frozenset({"says", "saying", "reads"})
_LINKS = _BEHIND | {"say", "read", "reading", "spelling", "spells", "titled", "named", "labeled", "labelled"}
_LINKS |= {"written", "that", "which", "captioned"}


def lettering(words: Sequence[str], listed: WordList) -> list[range]:
    """Return the places of the texts that the picture is to show, without their quotation marks."""
    lower = [word.lower() for word in words]
    if listed.entries["lettering"].isdisjoint(lower):
        return []
    found: list[range] = []
    i, count = 0, len(words)
    while i < count:
        inside = range(0)
        if words[i] in _MARKS:
            ends = (k for k in range(i + 2, min(i + _LONGEST + 2, count)) if words[k] == _MARKS[words[i]])
            end = next(ends, -1)
            if end != -1 and (i or end < count - 1):
                inside = range(i + 1, end)
        elif i and lower[i - 1] in _BEHIND:
            end = i
            while end < count and (words[end][0].isupper() or words[end][0].isdigit()):
                end += 1
            inside = range(i, end)
        if any(words[k][0].isalnum() for k in inside):
            found.append(inside)
            i = inside.stop
        i += 1
    return found


def analyse_around(
    words: Sequence[str], texts: Sequence[range], analyse: Callable[[Sequence[str]], Analysis]
) -> Analysis:
    """Analyse words with each text as one name, and make every word of it a part of that name."""
    if not texts:
        return analyse(words)
    inside = {k: text.start for text in texts for k in text}
    kept = [k for k in range(len(words)) if inside.get(k, k) == k]
    seen = analyse([_STAND_IN if k in inside else words[k] for k in kept])
    tags, heads, labels = ["PROPN"] * len(words), [-1] * len(words), ["flat"] * len(words)
    for place, k in enumerate(kept):
        head = seen.heads[place]
        tags[k], heads[k], labels[k] = seen.tags[place], -1 if head < 0 else kept[head], seen.labels[place]
    for k, first in inside.items():
        tags[k] = "PROPN"
        if k != first:
            heads[k] = first
    return Analysis(tags, heads, labels)


def hang_lettering(forest: Forest) -> None:
    """Hang a text on the thing right before it: the sign says it, not who holds the sign."""
    for text in forest.lettering:
        first, at = text[0], text[0] - 1
        links: list[int] = []
        while at >= 0 and not forest.is_noun(at) and (forest.lower[at] in _LINKS or forest.words[at] in _MARKS):
            links.append(at)
            at -= 1
        if at < 0 or not forest.is_noun(at) or forest.words[at] in BREAKS:
            continue
        carrier = at
        # Whatever hung on a link (the stretch behind the text) hangs on the carrier now.
        freed = [k for k, head in enumerate(forest.heads) if head in links and k not in links]
        for k in [first, *links, *freed]:
            forest.heads[k] = -1
        for k in freed:
            forest.hang(k, carrier, forest.labels[k])
        forest.hang(first, carrier, "nmod")
        for k in links:
            forest.hang(k, first, "punct" if forest.words[k] in _MARKS else "acl")
