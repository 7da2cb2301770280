"""Pipelines without weights: a recipe names where each part comes from, `grefine fetch` brings and assembles it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from grefine.config import load_config
from grefine.errors import ConfigError, WeightsMissing
from grefine.resources import cache_folder

RECIPE = "recipe.yaml"
INDEX = "model_index.json"


@dataclass(frozen=True)
class Part:
    """One component of a recipe."""

    source: str
    """A Hub repository, `open_clip:MODEL/PRETRAINED`, or the name of another thing that `grefine fetch` knows."""
    subfolder: str = ""
    files: list[str] = field(default_factory=list)
    """Patterns of what is needed; empty: all of the subfolder."""
    variant: str | None = None
    licence: str = ""
    size: str = ""
    """How much is downloaded, in words."""
    optional: bool = False


@dataclass(frozen=True)
class Recipe:
    """A pipeline as a list of parts, and the settings of its `model_index.json`."""

    name: str
    description: str
    parts: dict[str, Part]


def is_recipe(folder: Path) -> bool:
    """Say whether a pipeline folder holds a recipe instead of weights."""
    return (folder / RECIPE).is_file()


def read_recipe(folder: Path) -> Recipe:
    """Read the recipe of a pipeline folder."""
    return load_config(folder / RECIPE, Recipe)


def assembled_folder(folder: Path) -> Path:
    """Return the folder where `grefine fetch` assembled a recipe.

    Raises:
        WeightsMissing: it did not yet, or not completely.
    """
    recipe = read_recipe(folder)
    home = cache_folder() / "pipelines" / recipe.name
    needed = [name for name, part in recipe.parts.items() if not part.optional]
    missing = [name for name in needed if not (home / name).is_dir()]
    if missing or not (home / INDEX).is_file():
        sizes = ", ".join(f"{name} ({recipe.parts[name].size})" for name in missing if recipe.parts[name].size)
        raise WeightsMissing(
            f"The pipeline '{recipe.name}' is a recipe whose weights are not on this machine yet"
            f"{f': missing {sizes}' if sizes else ''}. Run `grefine fetch {recipe.name}` once, with a network."
        )
    return home


def check_recipe(recipe: Recipe, components: list[str]) -> None:
    """Refuse a recipe that names parts which the pipeline does not have.

    Raises:
        ConfigError: it does.
    """
    unknown = sorted(set(recipe.parts) - set(components))
    if unknown:
        raise ConfigError(f"Recipe '{recipe.name}' names unknown parts: {', '.join(unknown)}.")
