"""The dependency forest of one prompt, and the repairs that prompts need and newswire does not."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from grefine.text.backend import Analysis
from grefine.text.marks import UNDRAWN, WordList

NOUNS = frozenset({"NOUN", "PROPN"})
BREAKS = frozenset({",", ";", "|", ".", "!", "?", "\u2022", "\u00b7", "/", ":"})
PLACES_APART = frozenset({"above", "behind", "below", "beneath", "beside", "besides", "between", "front", "left"})
PLACES_APART |= {"near", "nearby", "next", "opposite", "over", "right", "under", "underneath"}
"""Words that put a thing somewhere else than on or in what it is told of."""
_WORDS_OF_A_TAG = 5
_COUNTED = re.compile(r"\d+(?:girls?|boys?|others?|(?:wo)?m[ae]n|persons?|people|child(?:ren)?|animals?)$")
"""Count and noun in one word, as tag collections write them: "1girl"."""


class Forest(Analysis):
    """Words with tags, heads and labels; `heads` and `labels` change under repair, never into a cycle."""

    def __init__(self, words: Sequence[str], analysis: Analysis, lettering: Sequence[Sequence[int]] = ()) -> None:
        self.words = words
        self.lettering = [list(text) for text in lettering]
        """Texts that the picture is to show, each one name."""
        self.inside_lettering = frozenset(i for text in lettering for i in text)
        self.undrawn = set(self.inside_lettering)
        """Words of tags and texts that are nothing to look for in the picture."""
        self.lower = [w.lower() for w in words]
        tags = [
            "NOUN" if word[0].isdigit() and _COUNTED.match(word) else tag
            for word, tag in zip(self.lower, analysis.tags, strict=True)
        ]
        super().__init__(tags, analysis.heads, analysis.labels)
        ends = [word in BREAKS and i not in self.inside_lettering for i, word in enumerate(words)]
        self.segment = list(accumulate(ends[:-1], initial=0))
        self._introduced: dict[int, int] | None = None

    def is_noun(self, i: int) -> bool:
        """Say whether word `i` is a common or proper noun."""
        return self.tags[i] in NOUNS

    def children(self, i: int) -> list[int]:
        """Return the words that hang on `i`, in order."""
        return [c for c, h in enumerate(self.heads) if h == i]

    def case_of(self, i: int) -> int:
        """Return the first preposition of `i` that stands before it, or -1."""
        # Prepositions keep their nouns once the whole ones are joined, so one pass serves all questions.
        if self._introduced is None:
            self._introduced = {}
            for c, label in enumerate(self.labels):
                if label == "case" and c < self.heads[c]:
                    self._introduced.setdefault(self.heads[c], c)
        return self._introduced.get(i, -1)


def repair(forest: Forest, listed: WordList) -> None:
    """Make one tree of a prompt: known tags, whole prepositions, and tags that hang on what the picture is of."""
    _read_tags(forest, listed)
    _join_prepositions(forest, listed)
    _turn_predicates(forest)
    _hang_clinging(forest, listed.entries["clinging"])
    _hang_patterns(forest, listed.entries["pattern"])
    _hang_states(forest, listed.entries["state"])
    main = main_noun(forest, listed)
    if main == -1:
        return
    if forest.segment[-1]:
        _raise_main(forest, main)
        _hang_segments(forest, main)
    for i, head in enumerate(forest.heads):
        if head == -1 and i != main:
            # Nothing happens to a root above the main noun: it stays what it is.
            forest.hang(i, main, "list")


def _read_tags(forest: Forest, listed: WordList) -> None:
    """Make each listed tag a tree of its own, and note in `forest.undrawn` which say nothing that can be drawn."""
    patterns = [re.escape(entry).replace(r"\*", r"\S+") for entry in listed.entries["tag"] if "*" in entry]
    start, count = 0, len(forest.words)
    while start < count:
        end = start
        while end < count and forest.words[end] not in BREAKS:
            end += 1
        if 0 < end - start <= _WORDS_OF_A_TAG and start not in forest.inside_lettering:
            text = " ".join(forest.lower[start:end])
            if text in listed.entries["tag"]:
                _cut_out(forest, start, end, end - 1)
            elif any(re.fullmatch(pattern, text) for pattern in patterns):
                _cut_out(forest, start, end, start)
            elif text in listed.entries["about"]:
                for i in range(start, end):
                    forest.tags[i] = "ADJ"
        start = end + 1


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


def _join_prepositions(forest: Forest, listed: WordList) -> None:
    """Let "in front of X" introduce X, as "on X" does."""
    words, entries, longest = forest.lower, listed.entries["preposition"], listed.longest["preposition"]
    starts = listed.starts["preposition"]
    count, i = len(words), 0
    if starts.isdisjoint(words):
        return
    while i < count - 2:
        ends = range(min(i + longest, count - 1), i + 1, -1) if words[i] in starts else ()
        end = next((end for end in ends if " ".join(words[i:end]) in entries), i)
        if end > i:
            _collapse(forest, i, end)
        i = max(end, i + 1)


def _collapse(forest: Forest, first: int, end: int) -> None:
    inside = range(first, end)
    target = _next_noun(forest, end)
    if target == -1:
        return
    if first and forest.is_noun(first - 1) and first <= forest.heads[first - 1] < end:
        _part(forest, first - 1, inside)
    outer = [forest.heads[i] for i in inside if not first <= forest.heads[i] < end]
    # The noun hangs where the preposition's own noun hung.
    above = next((h for h in outer if h != target), -1)
    at = target
    while at != -1 and not first <= at < end:
        at = forest.heads[at]
    if at != -1:
        # The noun hung below its own preposition; without this cut the next lines would close a cycle.
        forest.heads[target] = -1
    for i, head in enumerate(forest.heads):
        if first <= head < end and not first <= i < end:
            forest.heads[i] = target
    for i in inside:
        forest.heads[i], forest.labels[i] = target, "case"
        if forest.is_noun(i):
            forest.tags[i] = "ADP"
    if forest.heads[target] == -1 and above != -1:
        label = "nmod" if forest.is_noun(above) else "obl"
        forest.hang(target, above, label)
    if forest.heads[target] == -1:
        before = next((i for i in range(first - 1, -1, -1) if forest.is_noun(i)), -1)
        if before != -1 and forest.segment[before] == forest.segment[first]:
            forest.hang(target, before, "nmod")


def _part(forest: Forest, noun: int, inside: range) -> None:
    """Take the noun before "right of" for no part of a thing named "right": it gets what hung there and its place."""
    word = forest.heads[noun]
    forest.heads[noun], forest.labels[noun] = forest.heads[word], forest.labels[word]
    for i in range(noun):
        if forest.heads[i] in inside:
            forest.heads[i] = noun
    forest.heads[word] = noun


def _next_noun(forest: Forest, start: int) -> int:
    """Return the head noun of the stretch that begins at `start`, or -1."""
    for i in range(start, len(forest.heads)):
        if forest.segment[i] != forest.segment[start] or forest.tags[i] in ("VERB", "ADP", "CCONJ") and i > start + 3:
            break
        if forest.is_noun(i) and not (forest.heads[i] > i and forest.is_noun(forest.heads[i])):
            return i
    return -1


def _turn_predicates(forest: Forest) -> None:
    """Let "the ball is on the grass" hang the grass on the ball: a place is not what the picture is of."""
    for i, label in enumerate(forest.labels):
        place = forest.heads[i]
        if label != "nsubj" or place < i or not forest.is_noun(i) or not forest.is_noun(place):
            continue
        if forest.case_of(place) == -1:
            continue
        above, relation = forest.heads[place], forest.labels[place]
        forest.heads[place] = -1
        forest.heads[i], forest.labels[i] = -1, "root"
        forest.hang(place, i, "nmod")
        if above != -1:
            forest.hang(i, above, relation)


def _hang_clinging(forest: Forest, clinging: frozenset[str]) -> None:
    """Hang "blowing" on the hair and not on the girl: what such participles tell is true of the noun before them."""
    if clinging.isdisjoint(forest.lower):
        return
    for i, word in enumerate(forest.lower):
        head = forest.heads[i]
        if word not in clinging or forest.labels[i] not in ("acl", "advcl") or not 0 <= head < i:
            continue
        nearest = i - 1
        if forest.is_noun(nearest) and nearest != head and forest.segment[nearest] == forest.segment[i]:
            while forest.is_noun(forest.heads[nearest]) and forest.heads[nearest] == nearest - 1:
                nearest -= 1
            forest.hang(i, nearest, "acl")


def _hang_patterns(forest: Forest, patterns: frozenset[str]) -> None:
    """Hang "with dots" on the cone in "a box beside a cone with dots": it is told of the thing just named.

    Behind others ("in a dress with long hair") only a known pattern is; what is joined to one stands beside the thing.
    """
    if "with" not in forest.lower:
        return
    for i, word in enumerate(forest.lower):
        case = forest.case_of(i)
        if case < 1 or forest.lower[case] != "with" or not forest.is_noun(i) or not forest.is_noun(case - 1):
            continue
        if word not in patterns and not _is_apart(forest, case - 1):
            continue
        if forest.heads[i] != case - 1 and forest.segment[case] == forest.segment[case - 1]:
            forest.hang(i, case - 1, "nmod")
        for place in forest.children(i):
            if place > i and forest.is_noun(place) and forest.case_of(place) != -1:
                forest.hang(place, case - 1, "nmod")
                continue
            has_article = any(forest.tags[c] in ("DET", "NUM") for c in forest.children(place))
            joined = forest.labels[place].startswith("conj") and forest.is_noun(place) and has_article
            if word in patterns and joined:
                forest.hang(place, case - 1, "conj")


def _is_apart(forest: Forest, noun: int) -> bool:
    """Say whether a noun is joined or listed with another or placed apart from it, or is what a picture shows."""
    cases = [forest.lower[c] for c in forest.children(noun) if c < noun and forest.labels[c] == "case"]
    shown = forest.lower[forest.heads[noun]] in ("showing", "depicting")
    return shown or forest.labels[noun].startswith(("conj", "list")) or not PLACES_APART.isdisjoint(cases)


def _hang_states(forest: Forest, states: frozenset[str]) -> None:
    """Hang "closed" on the eyes and not on the woman, in "with her eyes closed"."""
    if states.isdisjoint(forest.lower):
        return
    for i in range(1, len(forest.words)):
        thing = i - 1
        while thing > 0 and forest.lower[thing] in states and forest.segment[thing] == forest.segment[i]:
            thing -= 1
        if forest.lower[i] not in states or not forest.is_noun(thing) or forest.segment[thing] != forest.segment[i]:
            continue
        owned = any(
            forest.labels[c] == "nmod:poss" or forest.lower[c] == "with" for c in forest.children(thing) if c < thing
        )
        followed = i + 1 < len(forest.words) and (forest.is_noun(i + 1) or forest.tags[i + 1] in ("ADP", "DET"))
        if owned and not followed and forest.hang(i, thing, "acl"):
            forest.tags[i] = "ADJ"


def main_noun(forest: Forest, listed: WordList) -> int:
    """Return the noun that the picture is of, or -1: the first without a preposition, or what a medium depicts."""
    nouns = [i for i in range(len(forest.words)) if forest.is_noun(i)]
    if not nouns:
        return -1
    wishes = frozenset().union(*(listed.entries[kind] for kind in UNDRAWN))
    for best in nouns:
        head = forest.heads[best]
        if head > best and forest.is_noun(head):
            continue
        if best in forest.undrawn or (best and forest.lower[best - 1] in listed.entries["negator"]):
            continue
        if forest.case_of(best) == -1 and forest.lower[best] not in wishes:
            break
    else:
        return nouns[0]
    for _ in range(3):
        if not listed.matches("medium", (), forest.lower[best]):
            break
        depicted = [
            c
            for c in forest.children(best)
            if c > best and forest.is_noun(c) and forest.lower[forest.case_of(c)] in ("of", "showing", "depicting")
        ]
        if not depicted:
            break
        best = depicted[0]
    return best


def _raise_main(forest: Forest, main: int) -> None:
    """Take the main noun off a tag before it: "no people, a house" is of the house."""
    top, segment = main, forest.segment[main]
    while forest.heads[top] != -1 and forest.segment[forest.heads[top]] == segment:
        top = forest.heads[top]
    head = forest.heads[top]
    if head != -1 and forest.segment[head] < segment and forest.is_noun(head):
        forest.heads[top], forest.labels[top] = -1, "root"


def _hang_segments(forest: Forest, main: int) -> None:
    """Hang each later tag on the main noun."""
    for number in range(forest.segment[-1] + 1):
        start, end = bisect_left(forest.segment, number), bisect_right(forest.segment, number)
        if number > forest.segment[main]:
            _hang_segment(forest, main, start, end)
        elif number < forest.segment[main]:
            # A noun of an earlier tag that was taken for a part of a later one hangs on the main noun itself.
            for i in range(start, end):
                head = forest.heads[i]
                if not forest.is_noun(i) or head < end or head == main:
                    continue
                if forest.case_of(i) == -1 and forest.is_noun(head):
                    forest.hang(i, main, "list")


def _hang_segment(forest: Forest, main: int, start: int, end: int) -> None:
    first = next((i for i in range(start, end) if forest.tags[i] not in ("PUNCT", "SYM", "CCONJ", "ADV")), -1)
    if first == -1:
        return
    tops = [i for i in range(start, end) if not start <= forest.heads[i] < end]
    clause = forest.tags[first] in ("PRON", "SCONJ", "AUX") or forest.tags[start] in ("CCONJ", "SCONJ")
    for top in tops:
        head = forest.heads[top]
        if forest.tags[top] == "PUNCT" or top == main:
            continue
        if head >= end or (forest.is_noun(top) and not clause and forest.tags[first] != "ADP") or head == -1:
            forest.hang(top, main, "list")
        elif forest.is_noun(head) and not clause and forest.tags[start] != "CCONJ":
            forest.hang(top, main, forest.labels[top])
