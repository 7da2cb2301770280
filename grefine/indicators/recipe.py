"""Pipelines without weights: a recipe names where each part was fetched to, and this puts them together once."""

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from grefine.config import load_config
from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing
from grefine.fetching import fetch_recipe, fetched_folder, lacking, require
from grefine.io.atomic import write_atomic
from grefine.resources import bundled, cache_folder, pipeline_folder, pipeline_names
from grefine.scorers.registry import judge_files

RECIPE = "recipe.yaml"
INDEX = "model_index.json"
PAINTER = "painter"
"""The part that is a whole pipeline of diffusers: another painter than SDXL."""
STAMP = "assembled.json"
"""Beside the assembled parts: how each was made. A part that is made otherwise now is made anew."""


def _published(part: str, target: Path) -> None:
    """Save one of the maps' parts, built from its published files."""
    from grefine.indicators import released

    if part == "pq_prompts" and not released.start_tokens_agree():
        warnings.warn(
            "The released prompts of PQ-Map begin with another start token than CLIP ViT-B/16 has, so they were "
            "learned on another CLIP and its quality maps may mean little; docs/weights.md says what to do.",
            stacklevel=2,
        )
    released.PARTS[part]().save_pretrained(target)


def builders() -> dict[str, tuple[int, Callable[[Path], None]]]:
    """Return the parts that are built from published files, with versions: what another one made is made anew."""
    # Version 1 of the tokenizer gave begin and end ids beyond the table of CLIP.
    versions = {"clip": 1, "clip_tokenizer": 2, "pq_prompts": 1}
    judges = {file.SPEC.component: file for file in judge_files().values() if file.SPEC.component}
    return {
        **{name: (version, partial(_published, name)) for name, version in versions.items()},
        **{name: (1, file.assemble) for name, file in judges.items() if hasattr(file, "assemble")},
    }


@dataclass(frozen=True)
class Part:
    """One component of a recipe."""

    fetch: str
    """The `grefine fetch` recipe that brings it."""
    folder: str | None = None
    """Its folder below that recipe's ("." for that itself); None: it is built from that recipe's files."""
    optional: bool = False

    def lacking(self) -> list[str]:
        """Return what of it is not fetched whole."""
        return lacking(self.fetch, self.below)

    @property
    def below(self) -> str:
        """Its folder as a path that may be empty."""
        return "" if self.folder in (None, ".") else str(self.folder)


@dataclass(frozen=True)
class Recipe:
    """A pipeline as a list of parts; its `model_index.json` lies beside it."""

    name: str
    description: str
    parts: dict[str, Part]
    variant: str | None = None
    """What diffusers is asked for unless the caller says otherwise, e.g. fp16."""


def read_recipe(folder: Path) -> Recipe:
    """Read the recipe of a pipeline folder."""
    return load_config(folder / RECIPE, Recipe)


def recipe_folder(name: str | Path) -> Path | None:
    """Return the folder of the bundled recipe that `name` means; None for anything else."""
    folder = bundled("pipelines") / str(name)
    is_recipe = "/" not in str(name) and not Path(name).is_dir() and (folder / RECIPE).is_file()
    return folder if is_recipe else None


def fetched_part(component: str) -> Path:
    """Return the folder of a component that a bundled recipe has, assembled from what was fetched."""
    recipes = [folder for name in pipeline_names() if (folder := recipe_folder(name)) is not None]
    for folder in sorted(recipes, key=lambda folder: PAINTER in read_recipe(folder).parts):
        if component in read_recipe(folder).parts:
            return assembled_folder(folder, [component]) / component
    raise WeightsMissing(f"No recipe brings the part '{component}'.")


def assembled_folder(folder: Path, only: Collection[str] | None = None) -> Path:
    """Return where the fetched parts of a recipe, or `only` these, stand as one pipeline, assembled at first use."""
    recipe = read_recipe(folder)
    absent = [name for name, part in recipe.parts.items() if part.lacking()]
    required = [name for name, part in recipe.parts.items() if not part.optional] if only is None else only
    needed = [recipe.parts[name] for name in absent if name in required]
    if needed:
        commands = " and ".join(f"`grefine fetch {name}`" for name in fetch_commands(part.fetch for part in needed))
        first = needed[0]
        raise WeightsMissing(
            f"The pipeline '{recipe.name}' is a recipe whose weights are not all on this machine: run {commands} once "
            f"with a network. The first file that is missing is '{first.lacking()[0]}' of "
            f"{first.fetch}: {fetch_recipe(first.fetch).description}"
        )
    home = cache_folder() / "pipelines" / recipe.name
    home.mkdir(parents=True, exist_ok=True)
    try:
        found = json.loads((home / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    stamps = found if isinstance(found, dict) else {}
    for name, part in recipe.parts.items():
        if name in absent or (only is not None and name not in only):
            continue
        require(part.fetch, part.below)
        made = _stamp(name, part)
        if stamps.get(name) != made or not (home / name).is_dir():
            _put(home / name, name, part)
            stamps[name] = made
            write_atomic(home / STAMP, json.dumps(stamps, indent=1).encode())
    if only is not None and (home / INDEX).is_file():
        return home
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    index |= {name: [None, None] for name in absent if name != PAINTER}
    if "controlnet" in absent:
        index["refine_defaults"] = {**(index.get("refine_defaults") or {}), "restorer": "inpaint"}
    known = home / INDEX
    if known.is_file():  # a calibration of one's own survives
        index["calibration"] = json.loads(known.read_text(encoding="utf-8")).get("calibration")
    write_atomic(known, (json.dumps(index, indent=1) + "\n").encode())
    return home


def fetched_pipeline(name: str | Path) -> Path | None:
    """Return the folder of a pipeline; of a recipe, one that holds whatever was fetched of it."""
    recipe = recipe_folder(name)
    if recipe is None:
        return pipeline_folder(name)
    there = [part for part, entry in read_recipe(recipe).parts.items() if not entry.lacking()]
    return assembled_folder(recipe, there)


def fetch_commands(names: Iterable[str]) -> list[str]:
    """Return which recipes to fetch, without those that another one brings along."""
    found = list(dict.fromkeys(names))
    brought = {needed.fetch for name in found for needed in fetch_recipe(name).needs}
    return [name for name in found if name not in brought]


def _stamp(name: str, part: Part) -> str:
    """Say how a part is made now."""
    if part.folder is not None:
        return str((fetched_folder(part.fetch) / part.folder).resolve())
    known = builders()
    if name not in known:
        raise ConfigError(f"The recipe's part '{name}' needs a folder: only {', '.join(known)} are built.")
    return f"{part.fetch}, version {known[name][0]}"


def _put(target: Path, name: str, part: Part) -> None:
    """Place one part: fetched folders are linked (copied where links are not allowed), ours are built."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{name}.") as place:
        made = Path(place, "new")
        if part.folder is not None:
            source = (fetched_folder(part.fetch) / part.folder).resolve()
            try:
                made.symlink_to(source, target_is_directory=True)
            except OSError:
                shutil.copytree(source, made)
        else:
            try:
                builders()[name][1](made)
            except WeightsCorrupt as error:
                again = f"Delete '{fetched_folder(part.fetch)}' and run `grefine fetch {part.fetch}` again."
                raise WeightsCorrupt(f"{str(error).rstrip('.?')}. {again}") from error
        if target.is_symlink() or target.exists():
            target.replace(Path(place, "old"))
        made.replace(target)
