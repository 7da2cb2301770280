"""Arguments as people type them."""

from __future__ import annotations

from collections.abc import Iterable

from grefine.errors import ConfigError


def names(text: str) -> list[str]:
    """Split "a, b" into names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def assignments(entries: Iterable[str], option: str) -> dict[str, str]:
    """Read NAME=VALUE entries."""
    found: dict[str, str] = {}
    for entry in entries:
        name, sign, value = entry.partition("=")
        if not (name.strip() and sign and value.strip()):
            raise ConfigError(f"{option} takes NAME=VALUE, not '{entry}'.")
        if name.strip() in found:
            raise ConfigError(f"{option} names '{name.strip()}' twice: give it once.")
        found[name.strip()] = value.strip()
    return found
