"""Nouns, the words nearest to each, and the noun each one hangs on (Eq. 4, Algorithm 1)."""

from __future__ import annotations

from grefine.text.forest import BREAKS, Forest

_JOINS = ("compound", "flat", "goeswith")
_SUBJECTS = ("nsubj", "nsubj:pass", "nsubj:outer")


def noun_groups(forest: Forest, merge_compounds: bool = True) -> list[list[int]]:
    """Return the centres pns: each noun, with its compound parts and name parts when they stand beside it."""
    count = len(forest.words)
    group = list(range(count))
    low, high = list(range(count)), list(range(count))
    is_noun = [forest.is_noun(i) for i in range(count)]

    def find(i: int) -> int:
        while group[i] != i:
            i = group[i]
        return i

    if merge_compounds:
        pairs = []
        for i, head in enumerate(forest.heads):
            if head < 0 or not is_noun[head] or forest.words[i] in BREAKS:
                continue
            named = forest.labels[i].startswith(_JOINS) and forest.labels[i] != "compound:prt"
            if named or (
                is_noun[i] and head == i + 1 and forest.labels[i] not in ("nmod:poss", "list", "conj", "nsubj")
            ):
                pairs.append((abs(i - head), i, head))
        for _, i, head in sorted(pairs):
            a, b = find(i), find(head)
            if a != b and (high[a] + 1 == low[b] or high[b] + 1 == low[a]):
                group[a] = b
                low[b], high[b] = min(low[a], low[b]), max(high[a], high[b])
                is_noun[b] = is_noun[b] or is_noun[a]
    members: dict[int, list[int]] = {}
    for i in range(count):
        members.setdefault(find(i), []).append(i)
    return [tokens for tokens in members.values() if any(forest.is_noun(i) for i in tokens)]


def top_of(group: list[int], forest: Forest) -> int:
    """Return the word of a centre whose head lies outside it."""
    inside = set(group)
    return next((i for i in group if forest.heads[i] not in inside), group[-1])


def assign(forest: Forest, groups: list[list[int]]) -> list[int]:
    """Map every word to the centre nearest in the tree; -1 where its tree has none (Eq. 4).

    Ties: a noun below the word, then the noun of the word's head, then the nearest in the sentence, then the leftmost.
    """
    count = len(forest.words)
    owner = [-1] * count
    for j, tokens in enumerate(groups):
        for i in tokens:
            owner[i] = j
    order = _heads_first(forest.heads)
    far = count + 1
    down = [0 if owner[i] >= 0 else far for i in range(count)]
    below: list[list[int]] = [[owner[i]] if owner[i] >= 0 else [] for i in range(count)]
    for i in reversed(order):
        head = forest.heads[i]
        if head < 0 or owner[head] >= 0 or down[i] == far:
            continue
        if down[i] + 1 < down[head]:
            down[head], below[head] = down[i] + 1, list(below[i])
        elif down[i] + 1 == down[head]:
            below[head] += below[i]
    out, distance = owner[:], [far] * count
    for i in order:
        head = forest.heads[i]
        up = distance[head] + 1 if head >= 0 else far
        if owner[i] >= 0:
            distance[i] = 0
        elif down[i] <= up and down[i] < far:
            distance[i] = down[i]
            out[i] = _closest(i, below[i], groups)
        elif head >= 0:
            distance[i], out[i] = up, out[head]
    return out


def _closest(i: int, candidates: list[int], groups: list[list[int]]) -> int:
    return min(candidates, key=lambda j: (min(abs(i - t) for t in groups[j]), groups[j][0]))


def _heads_first(heads: list[int]) -> list[int]:
    children: list[list[int]] = [[] for _ in heads]
    order = []
    for i, head in enumerate(heads):
        if head < 0:
            order.append(i)
        else:
            children[head].append(i)
    for i in order:
        order.extend(children[i])
    return order


def ancestors(forest: Forest, groups: list[list[int]]) -> list[int]:
    """Return for each centre the first centre above it, or itself (Algorithm 1).

    The paper climbs from every edge that joins two phrases; for connected phrases that is the climb from the noun.
    A verb on the way stands for its subject, so that "a knight fights a dragon" hangs the dragon on the knight.
    """
    owner = {i: j for j, tokens in enumerate(groups) for i in tokens}
    subject: dict[int, int] = {}
    for i, head in enumerate(forest.heads):
        if forest.labels[i] in _SUBJECTS and i in owner:
            subject.setdefault(head, i)
    out = []
    for j, tokens in enumerate(groups):
        at, found = forest.heads[top_of(tokens, forest)], j
        while at != -1:
            if owner.get(at, j) != j:
                found = owner[at]
                break
            actor = subject.get(at)
            if actor is not None and owner[actor] != j and not _hangs_on(j, owner[actor], out):
                found = owner[actor]
                break
            at = forest.heads[at]
        out.append(found)
    return out


def _hangs_on(j: int, other: int, known: list[int]) -> bool:
    """Say whether the ancestor of `other`, as far as known, leads to `j`: then `j` must not hang on it."""
    seen = set()
    while other < len(known) and other not in seen:
        if other == j:
            return True
        seen.add(other)
        other = known[other]
    return other == j
