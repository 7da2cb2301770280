"""Settings of a refinement as the command line gives them: a name or a file, and single changes."""

from collections.abc import Sequence
from pathlib import Path

from grefine.config import changed, changes_of
from grefine.refine.settings import RefineConfig, read_settings


def changed_settings(
    config: str | Path | RefineConfig,
    changes: Sequence[str] = (),
    preserve: str | None = None,
    candidates: str | None = None,
) -> RefineConfig:
    """Return the settings that `config` names with `KEY=VALUE` changes; values are read as YAML."""
    named = {"preserve": preserve, "candidates": candidates}
    values = changes_of(changes) | {name: value for name, value in named.items() if value is not None}
    settings = read_settings(config)
    return changed(settings, values) if values else settings
