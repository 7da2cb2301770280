"""From phrases to token weights: character spans out of the parser, token indices in any tokenizer (Eq. 7).

Nothing here reads prompt syntax: that was done once, when the prompt was cleaned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from grefine.errors import ConfigError
from grefine.types import ParsedPrompt

Span = tuple[int, int]
WeightedSpan = tuple[int, int, float]


def emphasise(parsed: ParsedPrompt, phrases: Iterable[int] = (), amount: float = 0.1) -> tuple[WeightedSpan, ...]:
    """Raise the weight of the words of some phrases by `amount`, on top of what the prompt itself asked for.

    Args:
        parsed: the prompt.
        phrases: indices of the phrases with a defect; a phrase named twice counts once.
        amount: what is added to the weight of their words.

    Returns:
        (start, end, weight) over `parsed.text`, in order, for every word whose weight is not 1. Eq. 7.

    Raises:
        ConfigError: an index without a phrase.
    """
    chosen = set(phrases)
    if chosen and not 0 <= min(chosen) <= max(chosen) < len(parsed.phrases):
        raise ConfigError(
            f"Phrases {sorted(chosen)} were asked for; the prompt has {len(parsed.phrases)}, counted from 0."
        )
    raised = {span for j in chosen for span in parsed.phrases[j].spans}
    out = []
    for token in parsed.tokens:
        span = (token.start, token.end)
        weight = token.weight + (amount if span in raised else 0.0)
        if weight != 1.0:
            out.append((*span, weight))
    return tuple(out)


def token_indices(spans: Sequence[Span], offsets: Sequence[Span]) -> list[int]:
    """Return the tokens that share a character with one of the spans.

    `offsets` holds each token's (start, end) in the text; special tokens have start = end.
    """
    return [
        k
        for k, (start, end) in enumerate(offsets)
        if any(start < last and first < end for first, last in spans if start < end)
    ]


def token_weights(weights: Sequence[WeightedSpan], offsets: Sequence[Span]) -> list[float]:
    """Return one weight per token: that of the span it lies in, 1 outside; the strongest change where spans meet."""
    out = [1.0] * len(offsets)
    for first, last, weight in weights:
        for k in token_indices([(first, last)], offsets):
            if abs(weight - 1.0) > abs(out[k] - 1.0):
                out[k] = weight
    return out


def token_offsets(tokenizer: Any, text: str) -> list[Span]:
    """Return each token's (start, end) in `text`, special tokens as (0, 0).

    Fast tokenizers of transformers know them; for others the tokens' own characters are found again in the text.

    Raises:
        ConfigError: an object that is no tokenizer.
    """
    if getattr(tokenizer, "is_fast", False):
        found = tokenizer(text, return_offsets_mapping=True, truncation=False, verbose=False)["offset_mapping"]
        return _without_spaces([(int(a), int(b)) for a, b in found], text)
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        ids = tokenizer(text, truncation=False, verbose=False)["input_ids"]
        special = set(getattr(tokenizer, "all_special_ids", ()))
        names = tokenizer.convert_ids_to_tokens(ids)
        return align(["" if i in special else name for i, name in zip(ids, names, strict=True)], text)
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "decoder"):
        # open_clip's own tokenizer: no special tokens from encode, so they are added here.
        inner = align([tokenizer.decoder[i] for i in tokenizer.encode(text)], text)
        return [(0, 0), *inner, (0, 0)]
    raise ConfigError(
        f"Cannot find token positions with a {type(tokenizer).__name__}: give a transformers or open_clip tokenizer."
    )


def align(pieces: Sequence[str], text: str) -> list[Span]:
    """Find the pieces of a tokenizer in the text they came from, in order; (0, 0) for a piece that is not there.

    Word marks ("</w>", "\u2581", "\u0120", "##") are left out of account, and so are case and spaces; byte-level
    alphabets are read as bytes.
    """
    stream, owner = bytearray(), []
    for k, char in enumerate(text):
        if not char.isspace():
            encoded = char.lower().encode("utf-8", "replace")
            stream += encoded
            owner += [k] * len(encoded)
    out, at = [], 0
    for piece in pieces:
        sought = _surface(piece)
        place = stream.find(sought, at, at + len(sought) + 64) if sought else -1
        if place == -1:
            out.append((0, 0))
        else:
            at = place + len(sought)
            out.append((owner[place], owner[at - 1] + 1))
    return out


def _surface(piece: str) -> bytes:
    core = piece.removesuffix("</w>").removeprefix("##").lstrip("\u2581\u0120")
    table = _byte_letters()
    if not core.isascii() and all(c in table for c in core):
        raw = bytes(table[c] for c in core)
        try:
            return raw.decode().lower().encode()
        except UnicodeDecodeError:
            return raw
    return core.lower().encode("utf-8", "replace")


@cache
def _byte_letters() -> dict[str, int]:
    """Return the alphabet of byte-level tokenizers: printable Latin-1 is itself, other bytes are from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in plain}
    rest = [b for b in range(256) if b not in set(plain)]
    table.update({chr(256 + k): b for k, b in enumerate(rest)})
    return table


def _without_spaces(offsets: list[Span], text: str) -> list[Span]:
    """Shrink spans that begin with the space before their word."""
    out = []
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1
        out.append((start, end))
    return out
