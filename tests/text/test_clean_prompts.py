"""Prompt syntax goes, words and emphasis stay."""

import pytest

from grefine.text.clean import HEAVIEST, clean, tokenise


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a red ball", "a red ball"),
        ("(masterpiece:1.2), (best quality:1.3), knight", "masterpiece, best quality, knight"),
        ("((cat)) on [grass]", "cat on grass"),
        ("a [cat|dog] on grass", "a cat or dog on grass"),
        ("a [cat:dog:0.5] on grass", "a cat or dog on grass"),
        ("a {cat} in rain", "a cat in rain"),
        ("cat <lora:fluffy_v2:0.8> on grass", "cat on grass"),
        ("a <cat-toy> on grass", "a <cat-toy> on grass"),
        ("a cat BREAK a dog", "a cat , a dog"),
        ("a cat --ar 16:9 --v 5", "a cat"),
        ("a cat --no people", "a cat , no people"),
        ("long_hair, blue_eyes", "long hair, blue eyes"),
        (r"cat \(animal\)", "cat (animal)"),
        ("at 16:9 or 12:30", "at 16:9 or 12:30"),
        ("  many \n\t spaces  ", "many spaces"),
        ("猫，犬", "猫,犬"),
        ("(a cat", "a cat"),
        ("a cat:1.3) here", "a cat here"),
        ("((((", ""),
        ("", ""),
        ("\x00cat\x07", "cat"),
        ("a \ud800 cat", "a cat"),
    ],
)
def test_text(prompt, text):
    assert clean(prompt).text == text


@pytest.mark.parametrize(
    ("prompt", "word", "weight"),
    [
        ("a (red ball:1.3) on grass", "ball", 1.3),
        ("a (red ball:1.3) on grass", "grass", 1.0),
        ("((cat))", "cat", 1.1**2),
        ("([cat])", "cat", 1.1 / 1.1),
        ("{cat}", "cat", 1.05),
        ("(a (red:1.5) ball:0.8)", "red", 1.5 * 0.8),
        ("(a (red:1.5) ball:0.8)", "ball", 0.8),
        ("hot dog::2 cold cat::0.5", "dog", 2.0),
        ("hot dog::2 cold cat::0.5", "cat", 0.5),
        ("(cat:99999)", "cat", HEAVIEST),
        ("(cat:-3)", "cat", 0.0),
        ("(cat", "cat", 1.0),
        ("cat)", "cat", 1.0),
        ("[cat:dog:0.5]", "cat", 1.0),
        ("(cat]", "cat", 1.0),
    ],
)
def test_weights_lie_on_their_words(prompt, word, weight):
    cleaned = clean(prompt)
    start = cleaned.text.index(word)
    assert cleaned.weight(start, start + len(word)) == pytest.approx(weight)


def test_tokens_point_into_the_text():
    text = clean("The woman's (long-haired:1.2) dog doesn't eat 3.5 half-elves, e.g. at 16:9...").text
    tokens = tokenise(text)
    assert all(text[start:end] == word for word, start, end in tokens)
    words = [w for w, _, _ in tokens]
    assert words[:6] == ["The", "woman", "'s", "long-haired", "dog", "does"]
    assert {"n't", "3.5", "half-elves", "16:9", "..."} <= set(words)


@pytest.mark.parametrize(
    "text", ["(" * 5000, "(" * 3000 + "x" + ")" * 3000, "a::" * 3000, "[a|" * 2000, "<lora:" * 3000], ids=range(5)
)
def test_deep_nesting_takes_no_time(text):
    import time

    started = time.process_time()
    clean(text)
    assert time.process_time() - started < 2
