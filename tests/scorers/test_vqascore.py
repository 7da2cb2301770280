"""VQAScore over a model of transformers: what it asks, whom it asks together, and that commands reach it."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from grefine import load_scorer
from grefine.cli.main import app
from grefine.errors import PromptError, WeightsCorrupt
from grefine.scorers.vqascore import phrases_of

sys.path.insert(0, str(Path(__file__).parent.parent))
from tiny_vlm import WORDS, save_tiny_vlm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_vlm(tmp_path_factory.mktemp("vlm"))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    sizes = [(112, 112, 3), (56, 84, 3), (112, 112, 3)]
    return [Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)) for size in sizes]


def test_it_is_the_probability_of_yes(folder, pictures):
    """Against transformers: the last position of a plain forward pass over the question as the template writes it."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    text = (
        "<|vision_start|><|image_pad|><|vision_end|>"
        'Does this figure show "a red ball on a table"? Please answer yes or no.'
    )
    expected = []
    for picture in pictures:
        inputs = processor(text=[text], images=[picture], return_tensors="pt")
        assert processor.tokenizer.unk_token_id not in inputs["input_ids"]
        with torch.no_grad():
            chances = model(**inputs).logits[0, -1].softmax(-1)
        expected.append(float(chances[processor.tokenizer.convert_tokens_to_ids("Yes")]))
    found = load_scorer("vqascore", folder)(pictures, ["a red ball on a table"] * 3)
    assert [one["vqascore.prompt"] for one in found] == pytest.approx(expected, abs=1e-6)
    assert len({round(one, 6) for one in expected}) == 3


def test_a_phrase_is_asked_like_a_prompt_of_its_own(folder, pictures):
    judge = load_scorer("vqascore", folder)
    assert phrases_of("a red ball and a blue cube, masterpiece") == ("a red ball", "a blue cube")
    assert phrases_of("a red ball") == ()
    (both,) = judge(pictures[:1], ["a red ball and a blue cube"])
    alone = [judge(pictures[:1], [text])[0]["vqascore.prompt"] for text in ("a red ball", "a blue cube")]
    assert alone[0] != alone[1]
    assert both["vqascore.phrases"] == pytest.approx(sum(alone) / 2, abs=1e-6)
    assert both["vqascore.weakest"] == pytest.approx(min(alone), abs=1e-6)
    (one,) = judge(pictures[:1], ["a red ball"])
    assert one["vqascore.prompt"] == one["vqascore.phrases"] == one["vqascore.weakest"]


def test_neighbours_change_nothing_and_equal_shapes_go_together(folder, pictures):
    judge = load_scorer("vqascore", folder)
    sizes = []
    judge.model.register_forward_pre_hook(
        lambda _module, _given, named: sizes.append(len(named["input_ids"])), with_kwargs=True
    )
    prompts = ["a red ball", "a red ball", "a blue cube"]
    together = judge(pictures, prompts)
    assert sorted(sizes) == [1, 2]
    for picture, prompt, found in zip(pictures, prompts, together, strict=True):
        assert found["vqascore.prompt"] == pytest.approx(judge([picture], [prompt])[0]["vqascore.prompt"], abs=1e-6)


def test_score_reaches_it(folder, pictures, tmp_path):
    pictures[0].save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a red ball and a blue cube")
    done = CliRunner().invoke(
        app, ["score", str(tmp_path), "--metrics", "vqascore", "--weights", f"vqascore={folder}"]
    )
    assert done.exit_code == 0, done.output
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    expected = load_scorer("vqascore", folder)(pictures[:1], ["a red ball and a blue cube"])[0].values
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected, abs=1e-6)


def test_it_decides_which_phrases_are_missing_and_then_does_not_judge(folder, pictures):
    """In the pipeline: the answers to each phrase and its noun, and nobody of the same model in the guard."""
    from components import pipeline

    from grefine.errors import ConfigError

    pipe, image = pipeline(), pictures[0].resize((32, 32))
    judge = load_scorer("vqascore", folder)
    settings = {"use_aq": f"vqa={folder}", "total_steps": 2, "restorer": "none"}
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 24, 24))
    prompt = "a red ball and a blue cube"
    result = pipe(prompt, image, mask, settings, scorers=["piqe", judge]).results[0]
    phrases = {found.phrase.text: found for found in result.alignment.phrases}
    for text, noun in (("a red ball", "ball"), ("a blue cube", "cube")):
        yes = judge.ask([image, image], [text, noun], against=True)
        assert (phrases[text].a_phs, phrases[text].a_pns) == pytest.approx(yes, abs=1e-6)
        missing = None if yes[0] >= 0.5 else "attribute" if yes[1] >= 0.5 else "noun"
        assert phrases[text].defect == missing
    assert set(result.before.keys()) == {"piqe", "p"} or set(result.before.keys()) == {"piqe"}
    assert "The map came from vqascore, which does not judge it; left out: vqascore." in result.decision.reason
    with pytest.raises(ConfigError, match="use_aq must be true, false, vqa or vqa=FOLDER, not 'vq'"):
        pipe(prompt, image, config={"use_aq": "vq"})


def test_what_cannot_answer_is_refused_in_a_sentence(folder, pictures, tmp_path):
    with pytest.raises(WeightsCorrupt, match="no complete folder of an image-text-to-text model"):
        load_scorer("vqascore", tmp_path)
    mute = save_tiny_vlm(tmp_path / "mute", [word for word in WORDS if word != "Yes"])
    with pytest.raises(WeightsCorrupt, match="does not know the word 'Yes'"):
        load_scorer("vqascore", mute)
    with pytest.raises(PromptError, match="one prompt per image"):
        load_scorer("vqascore", folder)(pictures)
    judge = load_scorer("vqascore", folder)
    judge.processor.chat_template = None
    with pytest.raises(WeightsCorrupt, match="cannot put the question"):
        judge(pictures[:1], ["a ball"])
