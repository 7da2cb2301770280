"""What every command does alike: it speaks on stderr, and hands its options on by name."""

from collections.abc import Mapping
from typing import Any

from typer import echo


def tell(line: str) -> None:
    """Say something that is no result."""
    echo(line, err=True)


def pick(given: Mapping[str, Any], names: str) -> dict[str, Any]:
    """Return the options that a function takes under their own names."""
    return {name: given[name] for name in names.split()}


def chosen(given: Mapping[str, Any], names: str) -> dict[str, Any]:
    """Return those of the named options that were given a value."""
    return {name: value for name, value in pick(given, names).items() if value is not None}
