"""From a prompt to its phrases: clean, cut, tag and parse, repair, group by nouns, hang phrases on phrases."""

from dataclasses import replace
from pathlib import Path

from grefine.errors import PromptError
from grefine.text.backend import Backend, checked, load_backend, register_backend
from grefine.text.clean import MOST_TOKENS, clean, tokenise
from grefine.text.embedded import embedded
from grefine.text.forest import BREAKS, NOUNS, PLACES_APART, Forest, repair
from grefine.text.language import foreign_language
from grefine.text.lettering import analyse_around, hang_lettering, lettering
from grefine.text.marks import UNDRAWN, WordList, is_drawable, negated_tokens
from grefine.text.nltk_backend import NltkBackend
from grefine.types import ParsedPrompt, Phrase, Token

_JOINS = ("compound", "flat", "goeswith")
_APART = frozenset({"nmod:poss", "list", "conj", "nsubj"})
_SUBJECTS = ("nsubj", "nsubj:pass", "nsubj:outer")


register_backend("embedded", embedded)
register_backend("nltk", NltkBackend)


def parse(
    prompt: str,
    backend: str | Backend = "embedded",
    *,
    marks: WordList | str | Path | None = None,
    merge_compounds: bool = True,
    any_language: bool = False,
) -> ParsedPrompt:
    """Parse a prompt, its syntax included, into its dependency forest and its phrases.

    More than 400 words are cut; `truncated` of the result counts them. A backend is "embedded", "nltk", a name given
    to `register_backend`, or an object with `name` and `analyse`. `marks` are added to the shipped marking words.
    `merge_compounds` makes "coffee mug" one noun; the paper's letter makes it two. `any_language` leaves the phrases
    of a prompt that is not English drawable; the parsers know English only.
    """
    if not isinstance(prompt, str):
        raise PromptError(f"A prompt must be a text, not {type(prompt).__name__}: give a string.")
    cleaned = clean(prompt)
    found = tokenise(cleaned.text)
    truncated = max(len(found) - MOST_TOKENS, 0)
    found = found[:MOST_TOKENS]
    parser = load_backend(backend)
    if not found:
        return ParsedPrompt(cleaned.text, (), (), truncated, backend=parser.name)
    words = [word for word, _, _ in found]
    listed = WordList.shipped()
    if marks is not None:
        listed = listed.joined(marks if isinstance(marks, WordList) else WordList.read(marks))
    texts = lettering(words, listed)
    analysis = analyse_around(words, texts, lambda seen: checked(parser.analyse(seen), len(seen), parser.name))
    forest = Forest(words, analysis, texts)
    hang_lettering(forest)
    repair(forest, listed)
    weights = [cleaned.weight(start, end) for _, start, end in found]
    phrases = _phrases(forest, found, weights, listed, merge_compounds)
    language = foreign_language(cleaned.text)
    if language and not any_language:
        phrases = tuple(replace(phrase, drawable=False) for phrase in phrases)
    tokens = tuple(
        Token(word, start, end, forest.tags[i], forest.heads[i], forest.labels[i], weights[i])
        for i, (word, start, end) in enumerate(found)
    )
    return ParsedPrompt(cleaned.text, tokens, phrases, truncated, language, parser.name)


def parse_prompt(
    prompt: str,
    backend: str | Backend = "embedded",
    *,
    marks: WordList | str | Path | None = None,
    merge_compounds: bool = True,
) -> list[Phrase]:
    """Return the phrases of a prompt; arguments and errors are those of `parse`."""
    return list(parse(prompt, backend, marks=marks, merge_compounds=merge_compounds).phrases)


def _phrases(
    forest: Forest, found: list[tuple[str, int, int]], weights: list[float], listed: WordList, merge: bool
) -> tuple[Phrase, ...]:
    groups = noun_groups(forest, merge)
    if not groups:
        return ()
    owner = assign(forest, groups)
    above = ancestors(forest, groups)
    excluded = negated_tokens(forest.lower, forest.tags, forest.heads, forest.labels, listed)
    undrawn = forest.undrawn.union(*(listed.covered(kind, forest.lower) for kind in UNDRAWN))
    members: list[list[int]] = [[] for _ in groups]
    for i, j in enumerate(owner):
        # Neither punctuation nor a possessive ending is shown in a phrase.
        is_ending = forest.words[i][0] in "'\u2019" and forest.labels[i] == "case"
        if j >= 0 and not is_ending and any(c.isalnum() for c in forest.words[i]):
            members[j].append(i)
    out = []
    for j, (group, inside) in enumerate(zip(groups, members, strict=True)):
        inside = inside or group
        top = top_of(group, forest)
        case = forest.case_of(top)
        agent = case >= 0 and forest.lower[case] == "by" and any(forest.tags[i] == "PROPN" for i in group)
        topmost = above[j] == j or forest.labels[top] in ("list", "root")
        lower = [forest.lower[i] for i in inside]
        drawable = is_drawable(lower, forest.lower[group[-1]], forest.labels[top], case >= 0, agent, topmost, listed)
        out.append(
            Phrase(
                noun=" ".join(forest.words[i] for i in group),
                words=tuple(forest.words[i] for i in inside),
                spans=tuple((found[i][1], found[i][2]) for i in inside),
                ancestor=above[j],
                weight=max(weights[i] for i in inside),
                negated=not excluded.isdisjoint(group),
                drawable=drawable and undrawn.isdisjoint(group),
                beside=above[j] != j and stands_apart(forest, group, inside),
                attributes=tuple(forest.words[i] for i in inside if i not in group and forest.labels[i] == "amod"),
            )
        )
    return tuple(out)


def noun_groups(forest: Forest, merge_compounds: bool = True) -> list[list[int]]:
    """Return the centres pns: each noun, with its compound parts and name parts when they stand beside it."""
    tags, heads, labels = forest.tags, forest.heads, forest.labels
    one = forest.inside_lettering
    group = {i: [i] for i, tag in enumerate(tags) if tag in NOUNS and i not in one}
    group |= {i: text for text in forest.lettering for i in text}
    pairs = []
    for i, head in enumerate(heads) if merge_compounds else ():
        if head not in group or forest.words[i] in BREAKS or i in one or head in one:
            continue
        label = labels[i]
        if (
            label.startswith(_JOINS)
            and label != "compound:prt"
            or (head == i + 1 and i in group and label not in _APART)
        ):
            pairs.append((abs(i - head), i, head))
    for _, i, head in sorted(pairs):
        part, whole = group.get(i) or [i], group[head]
        if part is not whole and (part[-1] + 1 == whole[0] or whole[-1] + 1 == part[0]):
            merged = sorted(part + whole)
            for t in merged:
                group[t] = merged
    return sorted({tokens[0]: tokens for tokens in group.values()}.values())


def top_of(group: list[int], forest: Forest) -> int:
    """Return the word of a centre whose head lies outside it."""
    inside = set(group)
    return next((i for i in group if forest.heads[i] not in inside), group[-1])


def assign(forest: Forest, groups: list[list[int]]) -> list[int]:
    """Map every word to the centre nearest in the tree; -1 where its tree has none (Eq. 4).

    Ties: a noun below the word, then the noun of the word's head, then the nearest in the sentence, then the leftmost.
    """
    heads = forest.heads
    count = len(heads)
    owner = [-1] * count
    for j, tokens in enumerate(groups):
        for i in tokens:
            owner[i] = j
    children: dict[int, list[int]] = {}
    for i, head in enumerate(heads):
        children.setdefault(head, []).append(i)
    order = children.pop(-1, [])  # heads come before what hangs on them
    for i in order:
        order += children.get(i, ())
    far = count + 1
    down = [0 if j >= 0 else far for j in owner]
    below: dict[int, list[int]] = {}
    for i in reversed(order):
        head = heads[i]
        if head < 0 or owner[head] >= 0 or down[i] == far:
            continue
        found = below[i] if owner[i] < 0 else [owner[i]]
        if down[i] + 1 < down[head]:
            down[head], below[head] = down[i] + 1, found
        elif down[i] + 1 == down[head]:
            below[head] = below[head] + found
    out, distance = owner[:], down[:]
    for i in order:
        if owner[i] >= 0:
            continue
        head = heads[i]
        up = distance[head] + 1 if head >= 0 else far
        if down[i] <= up and down[i] < far:
            found = below[i]
            out[i] = min(found, key=lambda j: (min(abs(i - t) for t in groups[j]), groups[j][0]))
        elif head >= 0:
            distance[i], out[i] = up, out[head]
    return out


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


def stands_apart(forest: Forest, group: list[int], words: list[int]) -> bool:
    """Say whether a centre stands beside what it hangs on: joined, listed with an article, or placed apart."""
    label, others = forest.labels[top_of(group, forest)], [i for i in words if i not in group]
    if label.startswith("conj") or any(forest.labels[i] == "expl" for i in others):
        return True
    if label.startswith(("list", "parataxis")) and any(forest.tags[i] in ("DET", "NUM") for i in others):
        return True
    return any(forest.lower[i] in PLACES_APART and forest.tags[i] != "NOUN" for i in others)


def _hangs_on(j: int, other: int, known: list[int]) -> bool:
    """Say whether the ancestor of `other`, as far as known, leads to `j`: then `j` must not hang on it."""
    seen = set()
    while other < len(known) and other not in seen:
        if other == j:
            return True
        seen.add(other)
        other = known[other]
    return other == j
