"""Eq. 7: spans and weights out, token indices for any tokenizer."""

import json

import pytest

from grefine.errors import ConfigError
from grefine.text.emphasis import align, emphasise, token_indices, token_offsets, token_weights
from grefine.text.parse import parse


def test_words_of_a_defective_phrase_are_raised():
    parsed = parse("a girl with long hair blowing in the wind")
    spans = emphasise(parsed, [2], amount=0.1)
    assert [parsed.text[a:b] for a, b, _ in spans] == ["blowing", "in", "the", "wind"]
    assert {w for _, _, w in spans} == {1.1}
    assert emphasise(parsed, [2, 2]) == emphasise(parsed, [2])
    assert emphasise(parsed) == ()


def test_the_prompts_own_weights_stay():
    parsed = parse("a (red:1.3) ball on grass")
    assert [(parsed.text[a:b], w) for a, b, w in emphasise(parsed)] == [("red", 1.3)]
    raised = {parsed.text[a:b]: w for a, b, w in emphasise(parsed, [0], 0.1)}
    assert raised == {"a": 1.1, "red": pytest.approx(1.4), "ball": 1.1}


def test_unknown_phrase_is_an_error():
    with pytest.raises(ConfigError, match="has 1"):
        emphasise(parse("a cat"), [1])


def test_indices_and_weights_by_offset():
    offsets = [(0, 0), (0, 1), (2, 5), (5, 8), (9, 12), (0, 0)]
    assert token_indices([(2, 8)], offsets) == [2, 3]
    assert token_indices([], offsets) == []
    assert token_weights([(2, 8, 1.1), (9, 12, 0.5)], offsets) == [1.0, 1.0, 1.1, 1.1, 0.5, 1.0]


@pytest.mark.parametrize(
    ("pieces", "text", "words"),
    [
        (["", "a</w>", "red</w>", "ba", "ll</w>", ""], "a red ball", ["", "a", "red", "ba", "ll", ""]),
        (["\u2581A", "\u2581red", "\u2581ball"], "A red  ball", ["A", "red", "ball"]),
        (["A", "\u0120red", "\u0120b", "all"], "A red ball", ["A", "red", "b", "all"]),
        (["caf\u00c3\u00a9</w>", "bar</w>"], "Caf\u00e9 bar", ["Caf\u00e9", "bar"]),
        (["emb", "##ed"], "embed", ["emb", "ed"]),
        (["elsewhere</w>", "cat</w>"], "a cat", ["", "cat"]),
    ],
)
def test_align(pieces, text, words):
    assert [text[a:b] for a, b in align(pieces, text)] == words


@pytest.fixture
def fast_tokenizer(tmp_path):
    """A byte-pair tokenizer of the kind CLIP uses, made here."""
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import PreTrainedTokenizerFast

    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=60, special_tokens=["<|startoftext|>", "<|endoftext|>"], end_of_word_suffix="</w>"
    )
    made.train_from_iterator(["a girl with long hair blowing in the wind", "a red ball on green grass"], trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


def test_a_phrase_finds_its_tokens(fast_tokenizer):
    parsed = parse("a (girl:1.2) with long hair blowing in the Wind")
    offsets = token_offsets(fast_tokenizer, parsed.text)
    assert offsets[0] == (0, 0)
    assert offsets[-1] == (0, 0)
    for phrase in parsed.phrases:
        found = token_indices(phrase.spans, offsets)
        covered = {c for k in found for c in range(*offsets[k])}
        assert covered == {c for a, b in phrase.spans for c in range(a, b)}
    weights = token_weights(emphasise(parsed, [2]), offsets)
    assert len(weights) == len(fast_tokenizer(parsed.text)["input_ids"])
    assert set(weights) == {1.0, 1.1, 1.2}


@pytest.mark.slow
def test_open_clips_tokenizer():
    open_clip = pytest.importorskip("open_clip")
    tokenizer = open_clip.SimpleTokenizer()
    text = "A caf\u00e9 terrace, extraordinarily long-haired cats"
    offsets = token_offsets(tokenizer, text)
    assert len(offsets) == len(tokenizer.encode(text)) + 2
    assert "".join(text[a:b] for a, b in offsets) == text.replace(" ", "")


def test_no_tokenizer_is_an_error():
    with pytest.raises(ConfigError, match="int"):
        token_offsets(3, "a cat")


def test_spans_are_plain_numbers():
    assert json.dumps(emphasise(parse("a cat"), [0]))
