"""Prompts that are not English are noticed, English ones are not."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.parser_scores import read_prompts
from grefine.cli.main import app
from grefine.text.language import foreign_language
from grefine.text.parse import parse

GOLDEN = Path(__file__).parent.parent / "golden"
LATIN = ("German", "French", "Spanish", "Italian", "Portuguese", "Dutch", "Polish", "Turkish")


def foreign_prompts():
    language, found = "", []
    for line in (GOLDEN / "foreign_prompts.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            language = line.strip("[]")
        elif line and not line.startswith("#"):
            found.append((language, line))
    return found


def test_other_languages_are_noticed():
    prompts = foreign_prompts()
    assert len({language for language, _ in prompts}) == 12
    missed = [text for _, text in prompts if not foreign_language(text)]
    assert len(missed) <= 0.02 * len(prompts), missed
    named = [language in foreign_language(text) for language, text in prompts if language in LATIN]
    assert sum(named) >= 0.8 * len(named)


def test_english_is_left_alone():
    records = read_prompts(GOLDEN / "prompts_dev.jsonl") + read_prompts(GOLDEN / "prompts_tags.jsonl")
    assert [r["prompt"] for r in records if foreign_language(r["prompt"])] == []


@pytest.mark.parametrize(
    "prompt",
    ["", "🐱", "a café in Paris", "a neon sign that says 猫", "Frida Kahlo in a jungle", "1girl, solo"],
)
def test_names_and_single_words_are_not_a_language(prompt):
    assert foreign_language(prompt) == ""


def test_phrases_of_another_language_are_not_judged_unless_asked():
    text = "eine rote Katze auf dem Tisch"
    parsed = parse(text)
    assert parsed.language == "German"
    assert parsed.phrases
    assert not any(phrase.drawable for phrase in parsed.phrases)
    assert any(phrase.drawable for phrase in parse(text, any_language=True).phrases)
    assert parse("a red cat on the table").language == ""


def test_the_command_says_it_once():
    done = CliRunner().invoke(app, ["parse", "eine rote Katze auf dem Tisch", "--json"])
    assert done.stderr.count("German") == 1
    assert json.loads(done.stdout)["language"] == "German"
    done = CliRunner().invoke(app, ["parse", "eine rote Katze auf dem Tisch", "--any-language", "--json"])
    assert all(phrase["drawable"] for phrase in json.loads(done.stdout)["phrases"])
