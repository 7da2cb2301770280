"""Settings of a refinement as the command line gives them: a name or a file, and single changes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grefine.config import build
from grefine.errors import ConfigError
from grefine.refine.settings import RefineConfig, read_settings


def changed_settings(
    config: str | Path | RefineConfig,
    changes: Sequence[str] = (),
    preserve: str | None = None,
    candidates: str | None = None,
) -> RefineConfig:
    """Return the settings that `config` names with `KEY=VALUE` changes; values are read as YAML."""
    import yaml

    values: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"'{change}' is not KEY=VALUE, e.g. total_steps=10.")
        try:
            values[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"The value of '{key.strip()}' cannot be read: '{text}'.") from error
    if preserve is not None:
        values["preserve"] = preserve
    if candidates is not None:
        values["candidates"] = candidates
    settings = read_settings(config)
    now = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return build(RefineConfig, now | values, where="settings") if values else settings
