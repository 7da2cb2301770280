"""From a prompt to its phrases: clean, cut, tag and parse, repair, group by nouns, hang phrases on phrases."""

from dataclasses import replace
from pathlib import Path

from grefine.errors import PromptError
from grefine.text.backend import Backend, checked, load_backend, register_backend
from grefine.text.clean import MOST_TOKENS, clean, tokenise
from grefine.text.embedded import embedded
from grefine.text.forest import Forest, repair
from grefine.text.language import foreign_language
from grefine.text.lettering import analyse_around, hang_lettering, lettering
from grefine.text.marks import UNDRAWN, WordList, is_drawable, negated_tokens
from grefine.text.nltk_backend import NltkBackend
from grefine.text.phrases import ancestors, assign, noun_groups, stands_apart, top_of
from grefine.types import ParsedPrompt, Phrase, Token

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
