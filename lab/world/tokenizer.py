"""A byte-pair tokenizer in CLIP's format in which every word of the toy world is one token.

Other words fall back to their letters, so that any prompt is legal.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lab.world.vocabulary import words

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

CONTEXT = 40
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(context: int = CONTEXT) -> "CLIPTokenizer":
    """Build the tokenizer; the same vocabulary on every machine."""
    from transformers import CLIPTokenizer

    symbols = _byte_symbols()
    merges = learn_merges(words())
    tokens = [*symbols, *(s + "</w>" for s in symbols), *(a + b for a, b in merges), START, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=context, pad_token=END, unk_token=END, errors="replace"
    )


def learn_merges(found: Iterable[str]) -> list[tuple[str, str]]:
    """Return merges under which each word ends as one token; later words never disturb earlier ones."""
    merges: list[tuple[str, str]] = []
    rank: dict[tuple[str, str], int] = {}
    for word in found:
        while len(pieces := _apply(word, rank)) > 1:
            rank[pieces[0], pieces[1]] = len(merges)
            merges.append((pieces[0], pieces[1]))
    return merges


def _apply(word: str, rank: dict[tuple[str, str], int]) -> list[str]:
    pieces = [*word[:-1], word[-1] + "</w>"]
    while True:
        pairs = [(rank[pair], i) for i, pair in enumerate(zip(pieces, pieces[1:], strict=False)) if pair in rank]
        if not pairs:
            return pieces
        _, at = min(pairs)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


def _byte_symbols() -> list[str]:
    """Return the printable stand-ins of the 256 bytes in the order of every CLIP vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(rest))]
