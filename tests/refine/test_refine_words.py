"""Prompts to embeddings: diffusers' own for plain short prompts, weights by span, long prompts in chunks."""

from __future__ import annotations

import pytest
import torch
from components import pipeline
from diffusers import StableDiffusionXLInpaintPipeline

from grefine.errors import ConfigError, PromptError
from grefine.refine.plan import region_prompt, token_weights
from grefine.refine.stages import region_weights
from grefine.types import ParsedPrompt, Phrase, Region, RepairPlan, Token

TEXT = "a red ball on the grass"


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def parsed():
    words, tokens, at = TEXT.split(), [], 0
    for word in words:
        start = TEXT.index(word, at)
        at = start + len(word)
        tokens.append(Token(word, start, at, weight=1.3 if word == "the" else 1.0))
    return ParsedPrompt(TEXT, tuple(tokens), ())


BALL = Phrase("ball", ("a", "red", "ball"), ((0, 1), (2, 5), (6, 10)), 0)


def test_plain_prompts_equal_diffusers(pipe):
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    theirs = StableDiffusionXLInpaintPipeline(**{n: getattr(pipe, n) for n in names}, add_watermarker=False)
    wanted = theirs.encode_prompt([TEXT, "a tree"], negative_prompt="snow", num_images_per_prompt=2)
    found = pipe.encode_prompt([TEXT, "a tree"], negative_prompt="snow", num_images_per_prompt=2)
    for ours, reference in zip(found, wanted, strict=True):
        assert torch.allclose(ours, reference, atol=1e-6)


def test_weights_move_only_their_tokens_away_from_the_empty_prompt(pipe):
    plain = pipe.encode_prompt(TEXT)[0]
    empty = pipe.encode_prompt("")[0]
    weighted = pipe.encode_prompt(TEXT, weights=[((2, 5, 1.1), (6, 10, 1.1))])[0]
    moved = [2, 3]  # after the start token: a, red, ball
    others = [i for i in range(plain.shape[1]) if i not in moved]
    assert torch.equal(weighted[:, others], plain[:, others])
    assert torch.allclose(weighted[:, moved], empty[:, moved] + 1.1 * (plain[:, moved] - empty[:, moved]), atol=1e-6)


def test_weights_leave_the_pooled_embedding(pipe):
    assert torch.equal(pipe.encode_prompt(TEXT)[2], pipe.encode_prompt(TEXT, weights=[((0, 10, 1.5),)])[2])


def test_long_prompts_are_chunked_not_cut(pipe):
    long = " ".join(["a red ball on the grass"] * 8)
    embeds = pipe.encode_prompt(long)[0]
    assert embeds.shape[1] == 64  # 48 tokens in chunks of 30, 32 places each
    assert torch.equal(pipe.encode_prompt(long, negative_prompt="snow")[1][:, :32], pipe.encode_prompt("snow")[0])
    changed = pipe.encode_prompt(long + " house")[0]
    assert torch.equal(embeds[:, :32], changed[:, :32])
    assert not torch.equal(embeds[:, 32:], changed[:, 32:])


def test_zeros_where_the_pipeline_says_so(pipe):
    assert pipe.encode_prompt(TEXT)[1].abs().sum() == 0
    pipe.register_to_config(force_zeros_for_empty_prompt=False)
    assert torch.equal(pipe.encode_prompt(TEXT)[1], pipe.encode_prompt("")[0])
    pipe.register_to_config(force_zeros_for_empty_prompt=True)


def test_bad_embeddings_are_refused(pipe):
    embeds = pipe.encode_prompt(TEXT)[0]
    with pytest.raises(PromptError, match="pooled_prompt_embeds"):
        pipe.encode_prompt(None, prompt_embeds=embeds)
    with pytest.raises(PromptError, match="2 negative prompts were given for 3"):
        pipe.encode_prompt(["a", "b", "c"], negative_prompt=["d", "e"])
    with pytest.raises(PromptError, match="Give `prompt`"):
        pipe.encode_prompt(None)


def test_without_tokenizers_the_sentence_says_what_to_pass(pipe):
    bare = pipeline()
    bare.tokenizer = bare.tokenizer_2 = None
    with pytest.raises(ConfigError, match="prompt_embeds"):
        bare.encode_prompt(TEXT)


def test_emphasis_adds_to_the_words_of_defective_phrases():
    weights = token_weights(parsed(), [BALL], 0.1)
    assert weights == ((0, 1, 1.1), (2, 5, 1.1), (6, 10, 1.1), (14, 17, 1.3))
    assert token_weights(parsed(), [], 0.1) == ((14, 17, 1.3),)


def test_region_prompt_says_the_phrase_first():
    assert region_prompt(TEXT, [BALL.text], True) == f"a red ball , {TEXT}"
    assert region_prompt(TEXT, [BALL.text, BALL.text], True) == f"a red ball , {TEXT}"
    assert region_prompt(TEXT, [BALL.text], False) == TEXT
    assert region_prompt("", [BALL.text], True) == "a red ball"


def test_region_weights_move_with_the_caption():
    import numpy as np

    plan = RepairPlan(np.ones((2, 2), bool), (), TEXT, ((2, 5, 1.1),))
    region = Region((0, 0, 2, 2), plan.mask, f"a red ball , {TEXT}", 0.9, "noun", "", (0,))
    assert region_weights(region, plan, 0.1) == ((0, 13, 1.1), (15, 18, 1.1))
    plain = Region((0, 0, 2, 2), plan.mask, TEXT, 0.9, "perceptual", "")
    assert region_weights(plain, plan, 0.1) == ((2, 5, 1.1),)
