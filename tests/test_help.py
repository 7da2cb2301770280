"""The help of every command fits 80 columns and says defaults whole."""

import re

import pytest
import typer
from typer.testing import CliRunner

from grefine.cli.help import COMMANDS, OPTIONS
from grefine.cli.main import app


def paths(command, before=()):
    yield before
    for name, below in getattr(command, "commands", {}).items():
        yield from paths(below, (*before, name))


ALL = list(paths(typer.main.get_command(app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
@pytest.mark.parametrize("columns", [80, 200])
def test_help_fits(words, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    assert "…" not in done.output


def test_help_names_every_option_once_and_defaults_whole():
    text = CliRunner().invoke(app, ["refine", "--help"]).output
    command = typer.main.get_command(app).commands["refine"]
    for param in command.params:
        if param.param_type_name == "option":
            name = re.escape(param.opts[0].removeprefix("--"))
            assert len(re.findall(rf"^  (?:-\w, )?--(?:\[no-\])?{name}\b(?!-)", text, re.M)) == 1, param.name
    joined = " ".join(text.split())
    assert "[default: table,sidecar,metadata]" in joined
    assert "[default: 33554432]" in joined
    assert "Go into folders of folders. [default: on]" in joined


def test_groups_name_what_exists():
    root = typer.main.get_command(app)
    assert set(root.commands) <= set(" ".join(COMMANDS.values()).split())
    given = set()
    for words in ALL:
        command = root
        for word in words:
            command = command.commands[word]
        given |= {param.name for param in command.params}
    assert set(" ".join(OPTIONS.values()).split()) <= given
