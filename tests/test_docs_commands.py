"""Every command that the documentation shows exists, with exactly these options, files and names."""

from __future__ import annotations

import re
import shlex
from itertools import product
from pathlib import Path

import pytest
import typer

from grefine.cli.main import app as grefine_app
from grefine.errors import ConfigError
from grefine.evaluate.baselines import REFINERS
from grefine.evaluate.scoring import wanted_metrics
from grefine.fetching import fetch_names
from grefine.resources import bundled, config_file, pipeline_names
from grefine.scorers.convert import kinds
from grefine.training.datasets.published import PUBLISHED
from lab.cli import app as lab_app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STARTS = ("grefine ", "python benchmarks/", "python -m benchmarks.", "python -m lab ", "pytest ")
NOT_BUNDLED = {"released", "sdxl"}
"""Pipelines that `grefine fetch` makes."""


def snippets(text):
    """Yield what stands in code blocks, line by line, and between back ticks."""
    fenced = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    for block in fenced.findall(text):
        yield from block.splitlines()[1:-1]
    rest = fenced.sub("", text)
    yield from (line.strip() for line in rest.splitlines() if line.startswith("    "))
    for inline in re.findall(r"`([^`]+)`", re.sub(r"\n(?! *\n)", " ", rest)):
        yield inline.replace("\\|", "|")


def commands_in(path):
    for snippet in snippets(path.read_text(encoding="utf-8")):
        for part in re.split(r"&&|;", snippet):
            words = part.strip()
            while re.match(r"[A-Z_]+=\S+ ", words):
                words = words.split(" ", 1)[1]
            words = words.removeprefix(".venv/bin/")
            if words.startswith(STARTS):
                yield words


SHOWN = [(path, command) for path in PAGES for command in dict.fromkeys(commands_in(path))]


def alternatives(words):
    """Expand "a|b" in the first words, which name the sub-command."""
    choices = [word.split("|") if place < 3 and "|" in word else [word] for place, word in enumerate(words)]
    return [list(chosen) for chosen in product(*choices)]


def command_of(words):
    """Return (command, its name, the words after it), or fail where a sub-command does not exist."""
    found, name = typer.main.get_command({"grefine": grefine_app, "lab": lab_app}[words[0]]), [words[0]]
    rest = words[1:]
    while hasattr(found, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in found.commands, f"'{' '.join(name)}' has no command '{rest[0]}': {sorted(found.commands)}"
        found = found.commands[rest[0]]
        name.append(rest.pop(0))
    return found, " ".join(name), rest


def value_after(rest, option):
    return next((b for a, b in zip(rest, rest[1:], strict=False) if a == option), None)


def is_placeholder(text):
    return text.isupper() or "=" in text


def check_values(name, rest):
    """Check that named configurations, presets, refiners and pipelines exist."""
    chosen = value_after(rest, "--config")
    if name == "grefine refine" and chosen and not is_placeholder(chosen):
        config_file("refine", chosen)
    trained = bundled("configs") / "train" / name.removeprefix("grefine train ")
    if trained.is_dir() and chosen:
        assert (trained / f"{chosen}.yaml").is_file(), f"{name} has no configuration {chosen}"
    if trained.is_dir():
        for data in (b for a, b in zip(rest, rest[1:], strict=False) if a == "--data" and ":" in b):
            assert data.partition(":")[0] in PUBLISHED, data
    metrics = value_after(rest, "--metrics")
    if metrics and not is_placeholder(metrics):
        wanted_metrics(metrics)
    for refiner in (value_after(rest, "--refiners") or "").split(","):
        assert not refiner or refiner in REFINERS, refiner
    if name == "grefine fetch" and rest and not is_placeholder(rest[0]):
        assert rest[0] in fetch_names(), rest[0]
    if name == "grefine convert" and rest:
        assert rest[0] in kinds(), rest[0]
    pipeline = value_after(rest, "--pipeline")
    assert not pipeline or is_placeholder(pipeline) or pipeline in {*pipeline_names(), *NOT_BUNDLED}, pipeline


def check_grefine(words):
    found, name, rest = command_of(words)
    known = {"--help"} | {text for option in found.params for text in (*option.opts, *option.secondary_opts)}
    for word in rest:
        option = word.split("=")[0]
        if re.match(r"--?[a-z]", option):
            assert option in known, f"'{name}' has no option {option}: {sorted(o for o in known if o.startswith('-'))}"
    check_values(name, rest)


def check_files(words):
    for word in words[1:]:
        if re.match(r"(benchmarks|tests|grefine|lab)/", word):
            assert (ROOT / word.split("::")[0].rstrip("/")).exists(), f"there is no {word}"
        elif word.startswith("benchmarks."):
            assert (ROOT / f"{word.replace('.', '/')}.py").is_file(), f"there is no module {word}"


def test_the_documentation_shows_commands():
    """The search below finds them at all."""
    shown = [command for _, command in SHOWN]
    for start in (
        "grefine refine",
        "grefine compare",
        "grefine rank pairs",
        "python benchmarks/agreement.py",
        "pytest",
    ):
        assert any(command.startswith(start) for command in shown), start
    assert len(shown) > 40


@pytest.mark.parametrize(("path", "command"), SHOWN, ids=lambda value: str(value)[-60:])
def test_command_exists(path, command):
    words = shlex.split(command.removeprefix("python -m ") if "-m lab" in command else command, comments=True)
    if words[0] not in ("grefine", "lab"):
        check_files(words)
        return
    for chosen in alternatives(words):
        check_grefine(chosen)


@pytest.mark.parametrize(
    ("command", "match"),
    [
        ("grefine refinne a", "no command 'refinne'"),
        ("grefine refine a --gates x:1", "no option --gates"),
        ("grefine compare a --refiners grefin", "grefin"),
        ("grefine rank fit|fits", "no command 'fits'"),
    ],
)
def test_the_checks_can_fail(command, match):
    chosen = alternatives(shlex.split(command))
    with pytest.raises(AssertionError, match=match):
        [check_grefine(words) for words in chosen]


def test_an_unknown_configuration_is_noticed():
    with pytest.raises(ConfigError):
        check_grefine(["grefine", "refine", "a", "--config", "defult"])
