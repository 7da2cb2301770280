"""The workshop: the toy world, how tiny and the parser were trained, and how the whole chain is measured."""

from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"
"""Settings of every recipe here, one YAML file each."""
