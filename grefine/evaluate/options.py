"""Arguments as people type them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from grefine.errors import ConfigError


def names(text: str) -> list[str]:
    """Split "a, b" into names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def assignments(entries: Iterable[str], option: str) -> dict[str, str]:
    """Read NAME=VALUE entries.

    Raises:
        ConfigError: an entry of another form, or a name given twice.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, sign, value = entry.partition("=")
        if not (name.strip() and sign and value.strip()):
            raise ConfigError(f"{option} takes NAME=VALUE, not '{entry}'.")
        if name.strip() in found:
            raise ConfigError(f"{option} names '{name.strip()}' twice: give it once.")
        found[name.strip()] = value.strip()
    return found


def metric_choice(text: str) -> str | Path | tuple[()]:
    """Return what `--metrics` means: nothing for all, a path for an existing YAML file, else names or a preset."""
    if not text.strip():
        return ()
    path = Path(text)
    return path if path.suffix in (".yaml", ".yml") else text


def absent(unavailable: Mapping[str, str], each: bool) -> list[str]:
    """Say which metrics did not run: each with its reason, or all in one line."""
    if each or len(unavailable) < 2:
        return [f"{name} did not run: {why}" for name, why in unavailable.items()]
    return [f"{len(unavailable)} metrics did not run here, which -v lists with what they need."]
