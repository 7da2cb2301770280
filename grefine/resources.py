"""Where bundled pipelines, configurations and fetched weights lie. No other room looks for them."""

import os
from pathlib import Path

from grefine.errors import ConfigError, nearest

_PACKAGE = Path(__file__).resolve().parent


def bundled(kind: str) -> Path:
    """Return the folder of bundled `kind` ("pipelines", "configs" or "examples").

    A wheel carries them inside the package; in a source tree they lie beside it.
    """
    inside = _PACKAGE / "_bundled" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def pipeline_names() -> list[str]:
    """Names that `from_pretrained` knows without a path."""
    root = bundled("pipelines")
    return sorted(p.name for p in root.iterdir() if (p / "model_index.json").is_file()) if root.is_dir() else []


def chosen_pipeline(name: str | None, option: str = "--pipeline NAME") -> str:
    """Return the pipeline that was asked for; none is taken silently."""
    if name:
        return name
    raise ConfigError(
        f"Name a pipeline with {option}: 'sdxl' for pictures of any kind (`grefine fetch sdxl` gets its weights), "
        "'tiny' for toy scenes only (it comes with grefine), a folder, or a Hub id."
    )


def pipeline_folder(name: str | Path) -> Path | None:
    """Return the folder that `name` means: an existing folder, or a bundled pipeline; None for anything else.

    A bundled recipe whose weights were fetched and assembled means the assembled folder.
    """
    path = Path(name)
    if path.is_dir():
        return path
    if not str(name) or "/" in str(name):
        return None
    inside, assembled = bundled("pipelines") / str(name), cache_folder() / "pipelines" / str(name)
    if (inside / "recipe.yaml").is_file() and (assembled / "model_index.json").is_file():
        return assembled
    return inside if (inside / "model_index.json").is_file() else None


def config_file(kind: str, name: str | Path) -> Path:
    """Return the YAML file that `name` means: a path, or the name of a bundled configuration of `kind`."""
    path = Path(name)
    if path.is_file():
        return path
    inside = bundled("configs") / kind / f"{name}.yaml"
    if inside.is_file():
        return inside
    names = sorted(p.stem for p in (bundled("configs") / kind).glob("*.yaml"))
    raise ConfigError(
        f"No {kind} configuration '{name}': give a YAML file or one of {', '.join(names) or '(none bundled)'}"
        f"{nearest(str(name), names)}"
    )


def cache_folder() -> Path:
    """Return the folder of fetched weights: GREFINE_CACHE, else XDG_CACHE_HOME/grefine, else ~/.cache/grefine."""
    if "GREFINE_CACHE" in os.environ:
        return Path(os.environ["GREFINE_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "grefine"
