"""`grefine doctor`: what this machine has, what of grefine can run on it, and the command that gets the rest."""

import json
import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from typer import Option, echo

PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "pyiqa", "peft")
_GIB = 2**30


def doctor(as_json: bool = Option(False, "--json", help="Print everything as JSON.")) -> None:
    """Say what is here: device, memory, packages, cache, pipelines, judges; and what gets what is missing."""
    found = examine()
    echo(json.dumps(found, indent=1) if as_json else "\n".join(_lines(found)))


def examine() -> dict[str, Any]:
    """Return what this machine has and what can run on it, as plain values."""
    from grefine import __version__
    from grefine.fetching import fetch_names
    from grefine.plugins import plugged_in
    from grefine.resources import cache_folder, pipeline_names
    from grefine.scorers.resolve import list_metrics

    pipelines = {name: _pipeline(name) for name in pipeline_names()}
    judges = {row["name"]: {"ready": row["runs"], "note": row["reason"]} for row in list_metrics()}
    for name in (name for name, state in pipelines.items() if state["ready"]):
        for row in list_metrics(pipeline=name):
            if row["runs"] and not judges[row["name"]]["ready"]:
                judges[row["name"]].setdefault("with", []).append(name)
    folder = cache_folder()
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    above = next((place for place in (folder, *folder.absolute().parents) if place.is_dir()), Path.cwd())
    return {
        "grefine": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None,
        "cache": {"folder": str(folder), "used": used, "free": shutil.disk_usage(above).free},
        "fetched": {name: _is_fetched(name) for name in fetch_names()},
        "pipelines": pipelines,
        "painters": sorted(plugged_in("grefine.painters", "painter")),
        "judges": judges,
    }


def _is_fetched(name: str) -> bool:
    """Say whether a recipe's files are here; of one without any, the files of those that it needs."""
    from grefine.fetching import fetch_recipe, lacking

    recipe = fetch_recipe(name)
    if recipe.files or recipe.hub:
        return not lacking(name)
    return all(_is_fetched(needed.fetch) for needed in recipe.needs)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    """Return the devices that --device takes here, the fastest first."""
    import torch

    found: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        found.append({"name": f"cuda:{index}", "model": facts.name, "bytes": facts.total_memory})
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "model": platform.processor() or "Apple GPU", "bytes": None})
    model = f"{os.cpu_count()} cores, {torch.get_num_threads()} of them used by torch"
    return [*found, {"name": "cpu", "model": model, "bytes": None}]


def _pipeline(name: str) -> dict[str, Any]:
    """Say whether a bundled pipeline can run, on thresholds of its own or guessed ones, and what it still needs."""
    from grefine.indicators.components import stored_calibration
    from grefine.indicators.recipe import fetch_commands, read_recipe, recipe_folder

    folder = recipe_folder(name)
    parts = read_recipe(folder).parts if folder else {}
    absent = {part: entry for part, entry in parts.items() if entry.lacking()}
    needed = [entry.fetch for entry in absent.values() if not entry.optional]
    return {
        "ready": not needed,
        "calibrated": not needed and stored_calibration(name).calibrated,
        "missing": list(absent),
        "get": [f"grefine fetch {recipe}" for recipe in fetch_commands(entry.fetch for entry in absent.values())],
    }


def _lines(found: dict[str, Any]) -> Iterator[str]:
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items() if number)
    memory, cache = found["memory"], found["cache"]
    yield f"grefine {found['grefine']} on Python {found['python']}: {packages}"
    for device in found["devices"]:
        size = f", {device['bytes'] / _GIB:.0f} GiB" if device["bytes"] else ""
        yield f"device    {device['name']}: {device['model']}{size}"
    if memory:
        yield f"memory    {memory / _GIB:.1f} GiB"
    yield (
        f"cache     {cache['folder']} (GREFINE_CACHE): {cache['used'] / _GIB:.1f} GiB used, "
        f"{cache['free'] / _GIB:.0f} GiB free on its disk"
    )
    yield "pipelines"
    for name, state in found["pipelines"].items():
        yield f"  {name:<12} {_told(state, name)}"
    if found["painters"]:
        yield f"painters of other packages (--painter NAME): {', '.join(found['painters'])}"
    judges = found["judges"]
    ready = [name for name, state in judges.items() if state["ready"]]
    yield f"judges for any picture: {', '.join(ready) or 'none'}"
    for name in found["pipelines"]:
        carried = [judge for judge, state in judges.items() if name in state.get("with", ())]
        if carried:
            yield f"judges with --pipeline {name}: {', '.join(carried)}"
    waiting = sum(not state["ready"] and "with" not in state for state in judges.values())
    if waiting:
        yield f"{waiting} judges wait for weights or a package: `grefine metrics` says which and how."


def _told(state: dict[str, Any], name: str) -> str:
    get = " and ".join(f"`{command}`" for command in state["get"])
    if not state["ready"]:
        return f"not ready: {get} brings {', '.join(state['missing'])}"
    if name == "tiny":
        text = "ready, for toy scenes only"
    elif state["calibrated"]:
        text = "ready, calibrated"
    else:
        text = f"ready, on guessed thresholds: `grefine calibrate --pipeline {name}` sets them"
    return f"{text}; {get} brings {', '.join(state['missing'])}" if state["missing"] else text
