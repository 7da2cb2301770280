"""Measure tags, trees and phrases: treebank accuracies, and the scores of annotated prompts."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from grefine.errors import ConfigError
from grefine.types import ParsedPrompt
from lab.parser.treebank import Sentence

_PIECE = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile("['\u2019]s\\b")


def attachment(
    sentences: Sequence[Sentence], heads: Sequence[list[int]], labels: Sequence[list[str]]
) -> dict[str, float]:
    """Return UAS and LAS in percent over all words, punctuation included."""
    right = both = total = 0
    for sentence, h, lab in zip(sentences, heads, labels, strict=True):
        for i in range(len(h)):
            total += 1
            if h[i] == sentence.heads[i]:
                right += 1
                both += lab[i] == sentence.labels[i]
    return {"uas": 100 * right / total, "las": 100 * both / total}


def tag_accuracy(sentences: Sequence[Sentence], tags: Sequence[list[str]]) -> float:
    """Return the share of right Penn tags in percent."""
    pairs = [(a, b) for s, t in zip(sentences, tags, strict=True) for a, b in zip(s.tags, t, strict=True)]
    return 100 * sum(a == b for a, b in pairs) / len(pairs)


def read_prompts(path: Path) -> list[dict]:
    """Read annotated prompts, one JSON object a line.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read annotated prompts from '{path}': {error}.") from error


def pieces(text: str) -> list[str]:
    """Cut a text as the annotation does: small letters and digits, no possessive."""
    return _PIECE.findall(_POSSESSIVE.sub("", unicodedata.normalize("NFC", text).lower()))


def prompt_scores(records: Sequence[dict], parse: Callable[[str], ParsedPrompt]) -> dict[str, float]:
    """Compare parsed prompts with their annotation.

    Returns:
        Over all prompts: F1 of required nouns; share of words in an accepted phrase; share of required nouns with an
        accepted ancestor, all and non-root only; share of prompts without any fault.
    """
    hits = missed = extra = 0
    words = words_right = 0
    above = above_right = inner = inner_right = 0
    exact = 0
    for record in records:
        parsed = parse(record["prompt"])
        matched, surplus = _match(record, parsed)
        required = [k for k, p in enumerate(record["phrases"]) if not p["optional"]]
        found = [k for k in required if k in matched]
        hits += len(found)
        missed += len(required) - len(found)
        extra += surplus
        right, count = _words_right(record, parsed, matched)
        words += count
        words_right += right
        back = {j: k for k, j in matched.items()}
        ok = 0
        for k in required:
            accepted = record["phrases"][k]["ancestors"]
            good = k in matched and back.get(parsed.phrases[matched[k]].ancestor, -1) in accepted
            ok += good
            if accepted[0] != k:
                inner += 1
                inner_right += good
        above += len(required)
        above_right += ok
        exact += right == count and ok == len(required) and not surplus
    return {
        "noun_f1": 2 * hits / max(2 * hits + missed + extra, 1),
        "words": words_right / max(words, 1),
        "ancestors": above_right / max(above, 1),
        "ancestors_inner": inner_right / max(inner, 1),
        "exact": exact / max(len(records), 1),
    }


def _match(record: dict, parsed: ParsedPrompt) -> tuple[dict[int, int], int]:
    """Return annotated -> parsed phrase, and the number of parsed nouns that should not be.

    Nouns are matched in order; a noun counts when it holds a head and all its words lie in the annotated phrase.
    """
    order = _positions(record, parsed)
    matched: dict[int, int] = {}
    surplus = 0
    for j, phrase in enumerate(parsed.phrases):
        noun = set(pieces(phrase.noun))
        options = [
            k
            for k, p in enumerate(record["phrases"])
            if k not in matched and noun & {x for h in p["heads"] for x in pieces(h)}
        ]
        options = [k for k in options if noun <= _allowed(record, k)] or []
        if not options:
            inside = [k for k, p in enumerate(record["phrases"]) if p["optional"] and noun <= _allowed(record, k)]
            surplus += not inside
            continue
        matched[min(options, key=lambda k: abs(order[k] - j))] = j
    return matched, surplus


def _positions(record: dict, parsed: ParsedPrompt) -> dict[int, float]:
    scale = len(parsed.phrases) / max(len(record["phrases"]), 1)
    return {k: k * scale for k in range(len(record["phrases"]))}


def _allowed(record: dict, k: int) -> set[str]:
    return {t["t"] for t in record["tokens"] if k in t["phrases"]} | set(pieces(record["phrases"][k]["noun"]))


def _words_right(record: dict, parsed: ParsedPrompt, matched: dict[int, int]) -> tuple[int, int]:
    """Walk both word lists in step and count the words that lie in an accepted phrase."""
    back = {j: k for k, j in matched.items()}
    placed: list[tuple[int, str, int]] = []
    for j, phrase in enumerate(parsed.phrases):
        for word, (start, _) in zip(phrase.words, phrase.spans, strict=True):
            placed += [(start, piece, j) for piece in pieces(word)]
    placed.sort(key=lambda item: item[0])
    at = right = 0
    for token in record["tokens"]:
        ahead = next((n for n in range(at, min(at + 6, len(placed))) if placed[n][1] == token["t"]), -1)
        if ahead == -1:
            continue
        at = ahead + 1
        right += back.get(placed[ahead][2], -1) in token["phrases"]
    return right, len(record["tokens"])


if __name__ == "__main__":
    from grefine.text.parse import parse as embedded

    for name in sys.argv[1:]:
        print(name, {key: round(value, 4) for key, value in prompt_scores(read_prompts(Path(name)), embedded).items()})
