"""Prompts that are not English are noticed, English ones are not."""

import json

import pytest
from typer.testing import CliRunner

from benchmarks.languages import english_prompts, foreign_prompts, told
from grefine.cli.main import app
from grefine.text.language import foreign_language
from grefine.text.parse import parse


def test_other_languages_are_noticed():
    by_language = foreign_prompts()
    prompts = [prompt for listed in by_language.values() for prompt in listed]
    assert len(by_language) == 12
    assert len(prompts) >= 500
    assert len(told(prompts)) >= 0.98 * len(prompts)
    named = [language in foreign_language(text) for language, rows in by_language.items() for text in rows]
    assert sum(named) >= 0.9 * len(named)


def test_english_is_left_alone():
    assert told(english_prompts()) == []


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "🐱",
        "a café in Paris",
        "a neon sign that says 猫",
        "Frida Kahlo in a jungle",
        "1girl, solo",
        "mona lisa, leonardo da vinci",
        "greg rutkowski, artgerm, ilya kuvshinov",
        "Zdzisław Beksiński, Alphonse Mucha",
        "crème brûlée, macarons",
    ],
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
