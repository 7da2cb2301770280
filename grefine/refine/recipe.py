"""Pipelines without weights: a recipe names where each part was fetched to, and this puts them together once."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from grefine.config import load_config
from grefine.errors import ConfigError, WeightsMissing
from grefine.resources import cache_folder, fetch_recipe, fetched, fetched_folder

RECIPE = "recipe.yaml"
INDEX = "model_index.json"


@dataclass(frozen=True)
class Part:
    """One component of a recipe."""

    fetch: str
    """The `grefine fetch` recipe that brings it."""
    folder: str | None = None
    """Its folder below that recipe's; None: it is built from that recipe's files."""
    optional: bool = False


@dataclass(frozen=True)
class Recipe:
    """A pipeline as a list of parts; its `model_index.json` lies beside it."""

    name: str
    description: str
    parts: dict[str, Part]
    variant: str | None = None
    """What diffusers is asked for unless the caller says otherwise, e.g. fp16."""


def is_recipe(folder: Path) -> bool:
    """Say whether a pipeline folder holds a recipe instead of weights."""
    return (folder / RECIPE).is_file()


def read_recipe(folder: Path) -> Recipe:
    """Read the recipe of a pipeline folder."""
    return load_config(folder / RECIPE, Recipe)


def assembled_folder(folder: Path) -> Path:
    """Return the folder where a recipe's fetched parts stand as one pipeline, assembling them at first use.

    Raises:
        WeightsMissing: parts that are not fetched yet; the sentence names the commands.
    """
    recipe = read_recipe(folder)
    lacking = [part for part in recipe.parts.values() if not part.optional and not _is_fetched(part)]
    missing = list(dict.fromkeys(part.fetch for part in lacking))
    if missing:
        commands = " and ".join(f"`grefine fetch {name}`" for name in missing)
        raise WeightsMissing(
            f"The pipeline '{recipe.name}' is a recipe whose weights are not all on this machine: run {commands} once "
            f"with a network. What is missing first: {fetch_recipe(missing[0]).description}"
        )
    home = cache_folder() / "pipelines" / recipe.name
    absent = [name for name, part in recipe.parts.items() if part.optional and not _is_fetched(part)]
    for name, part in recipe.parts.items():
        if name not in absent and not (home / name).is_dir():
            _put(home / name, name, part)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    index |= {name: [None, None] for name in absent}
    if "controlnet" in absent:
        index["refine_defaults"] = {**(index.get("refine_defaults") or {}), "restorer": "inpaint"}
    known = home / INDEX
    if known.is_file():  # a calibration of one's own survives
        index["calibration"] = json.loads(known.read_text(encoding="utf-8")).get("calibration")
    home.mkdir(parents=True, exist_ok=True)
    known.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return home


def _is_fetched(part: Part) -> bool:
    home = fetched_folder(part.fetch)
    if part.folder is not None:
        return (home / part.folder).is_dir()
    recipe = fetch_recipe(part.fetch)
    return all((home / name).is_file() for name in _files_of(recipe))


def _files_of(recipe: object) -> list[str]:
    names = [file.path for file in recipe.files]  # type: ignore[attr-defined]
    for hub in recipe.hub:  # type: ignore[attr-defined]
        prefix = "" if hub.into == "." else f"{hub.into}/"
        names += [prefix + name for name in hub.files if "*" not in name]
    return names


def _put(target: Path, name: str, part: Part) -> None:
    """Place one part: fetched folders are linked (copied where links are not allowed), ours are converted."""
    partial = target.with_name(f"{name}.{os.getpid()}.part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    if part.folder is not None:
        source = (fetched_folder(part.fetch) / part.folder).resolve()
        try:
            partial.symlink_to(source, target_is_directory=True)
        except OSError:
            shutil.copytree(source, partial)
    else:
        _convert(name, part, partial)
    partial.replace(target)


def _convert(name: str, part: Part, target: Path) -> None:
    import open_clip
    import torch
    from safetensors.torch import load_file
    from transformers import CLIPTokenizer

    from grefine.models.clip_surgery import ClipSurgery
    from grefine.models.pq_prompts import PQPrompts

    if name == "clip":
        state = load_file(fetched(part.fetch, _files_of(fetch_recipe(part.fetch))[0]))
        ClipSurgery.from_reference(state).save_pretrained(target)
    elif name == "pq_prompts":
        files = [file.path for file in fetch_recipe(part.fetch).files]
        factors = {
            Path(path).stem.removeprefix("PQ-"): torch.load(fetched(part.fetch, path), weights_only=True)
            for path in files
        }
        PQPrompts.from_reference(factors).save_pretrained(target)
    elif name == "clip_tokenizer":
        # open_clip ships CLIP's vocabulary; transformers' tokenizer takes it as ids and merges.
        known = open_clip.SimpleTokenizer()
        merges = sorted(known.bpe_ranks, key=known.bpe_ranks.__getitem__)
        CLIPTokenizer(vocab=dict(known.encoder), merges=merges, model_max_length=77).save_pretrained(target)
    else:
        raise ConfigError(
            f"The recipe's part '{name}' needs a folder: only clip, clip_tokenizer, pq_prompts are built."
        )
