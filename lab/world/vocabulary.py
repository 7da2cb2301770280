"""The words of the toy world and what they look like (vocabulary.yaml). Indices in scenes point into these tuples."""

from itertools import pairwise
from typing import Any

from lab import table

_READ = table("world/vocabulary.yaml")
EXTRA_WORDS = _READ.pop("further words").split()
_TABLE = {name: tuple(map(tuple, rows)) for name, rows in _READ.items()}
NOUN_WORDS, COLOUR_WORDS, COLOUR_RGB = _TABLE["nouns"], _TABLE["colours"], _TABLE["rgb"]
TEXTURE_ADJECTIVES, GROUND_PHRASES, SKY_PHRASES = _TABLE["textures"], _TABLE["grounds"], _TABLE["skies"]
RELATION_PHRASES = _TABLE["relations"]
NOUNS, COLOURS, TEXTURES = (tuple(row[0] for row in rows) for rows in (NOUN_WORDS, COLOUR_WORDS, TEXTURE_ADJECTIVES))
TEXTURE_NOUNS = (None, "stripes", "checks", "dots")
COUNT_WORDS = ("no", "one", "two", "three")
OPENINGS = ("", "", "", "a picture of ", "an image of ", "a painting of ", "a scene with ")
VERBS = ("standing", "sitting", "resting", "placed")
HELD_OUT_PAIRS = frozenset({(0, 5), (1, 2), (2, 6), (3, 0), (4, 4), (5, 7), (6, 3), (7, 1)})
"""(noun, colour) pairs that no training scene shows: purple ball, yellow box, pink cone, red star, ..."""

DEFECT_KINDS = ("blur", "noise", "jpeg", "warp", "cast", "banding", "smear")
HELD_OUT_DEFECT = "smear"
"""The perceptual defect that nothing in a pipeline is trained on."""
TRAINING_DEFECTS = tuple(kind for kind in DEFECT_KINDS if kind != HELD_OUT_DEFECT)


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("x") else "s")


def words() -> list[str]:
    """Return every word that a caption can hold, sorted: what the tokenizer gets a token for."""
    named = [*OPENINGS, *(name for rows in _TABLE.values() for row in rows for name in row if isinstance(name, str))]
    plurals = (plural(noun) for names in NOUN_WORDS for noun in names)
    return sorted({*EXTRA_WORDS, *VERBS, *filter(None, TEXTURE_NOUNS), *plurals, *" ".join(named).split()})


CONTEXT = 40
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(context: int = CONTEXT) -> Any:
    """Build CLIP's kind of tokenizer: a word of the toy world is one token, others fall back to their letters."""
    from transformers import CLIPTokenizer

    # The printable stand-ins of the 256 bytes, in the order of every CLIP vocabulary.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]
    # Under these merges each word ends as one token; later words never disturb earlier ones.
    merges: list[tuple[str, str]] = []
    for word in words():
        while len(pieces := _apply(word, merges)) > 1:
            merges.append((pieces[0], pieces[1]))
    tokens = [*symbols, *(s + "</w>" for s in symbols), *(a + b for a, b in merges), START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=context, pad_token=END, unk_token=END, errors="replace"
    )


def _apply(word: str, merges: list[tuple[str, str]]) -> list[str]:
    pieces = [*word[:-1], word[-1] + "</w>"]
    rank = {pair: number for number, pair in enumerate(merges)}
    while pairs := [(rank[pair], i) for i, pair in enumerate(pairwise(pieces)) if pair in rank]:
        _, at = min(pairs)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces
