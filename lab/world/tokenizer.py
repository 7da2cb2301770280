"""A byte-pair tokenizer in CLIP's format: a word of the toy world is one token, others fall back to their letters."""

from itertools import pairwise

from transformers import CLIPTokenizer

from lab.world.vocabulary import words

CONTEXT = 40
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(context: int = CONTEXT) -> CLIPTokenizer:
    """Build the tokenizer; the same vocabulary on every machine."""
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
