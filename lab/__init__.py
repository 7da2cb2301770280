"""The workshop: the toy world, how tiny and the parser were trained, and how the whole chain is measured."""

from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).parent / "configs"
"""Settings of every recipe here, one YAML file each."""


def table(file: str) -> Any:
    """Read a YAML file of this folder."""
    return yaml.safe_load((CONFIGS.parent / file).read_text(encoding="utf-8"))
