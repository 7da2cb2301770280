"""Where bundled pipelines, configurations and fetched weights lie. No other room looks for them."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grefine.config import load_config
from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing, nearest

_PACKAGE = Path(__file__).resolve().parent


def bundled(kind: str) -> Path:
    """Return the folder of bundled `kind` ("pipelines" or "configs").

    A wheel carries them inside the package; in a source tree they lie beside it.
    """
    inside = _PACKAGE / "_bundled" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def pipeline_names() -> list[str]:
    """Names that `from_pretrained` knows without a path."""
    root = bundled("pipelines")
    return sorted(p.name for p in root.iterdir() if (p / "model_index.json").is_file()) if root.is_dir() else []


def chosen_pipeline(name: str | None, option: str = "--pipeline NAME") -> str:
    """Return the pipeline that was asked for; none is taken silently.

    Raises:
        ConfigError: none was, with what can be chosen.
    """
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


LOCK = "lock.json"
"""In the cache folder: what was fetched, from where, and the hash that every later look is held to."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file behind an address."""

    url: str
    path: str
    """Where it lies below the recipe's folder in the cache."""
    sha256: str | None = None
    """Known from a cited source; None where only the first download can tell."""


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Files of one repository on the Hugging Face Hub."""

    repo: str
    files: tuple[str, ...]
    """Names, or patterns with `*`."""
    revision: str | None = None
    """A commit; None takes the newest at first download, which the lock file then pins."""
    into: str = "."
    """Folder below the recipe's."""


@dataclass(frozen=True, slots=True)
class FetchRecipe:
    """What `grefine fetch NAME` gets; `configs/fetch/NAME.yaml`."""

    description: str
    licence: str
    """Terms of what is fetched, in words."""
    source: str
    """Where hashes, revisions and terms are stated."""
    ask: bool = False
    """True when the terms are unknown or not free: nothing is fetched without a clear yes."""
    files: tuple[RemoteFile, ...] = ()
    hub: tuple[HubFiles, ...] = ()


def fetch_names() -> list[str]:
    """Names that `grefine fetch` knows."""
    return sorted(path.stem for path in (bundled("configs") / "fetch").glob("*.yaml"))


def fetch_recipe(name: str | Path) -> FetchRecipe:
    """Read the recipe that `name` means: a bundled one or a YAML file."""
    return load_config(config_file("fetch", name), FetchRecipe)


def fetched_folder(name: str | Path) -> Path:
    """Return where the files of a recipe lie, fetched or not."""
    return cache_folder() / Path(name).stem


def fetched(name: str, path: str) -> Path:
    """Return one fetched file, checked against the lock.

    Raises:
        WeightsMissing: it is not there; the sentence names the command, and the place for a copy by hand.
        WeightsCorrupt: it is not what it was.
    """
    file = fetched_folder(name) / path
    if not file.is_file():
        raise _missing(fetch_recipe(name), name, path)
    _check(file, name, path, {f.path: f.sha256 for f in fetch_recipe(name).files}.get(path))
    return file


def fetch(
    name: str | Path, *, accept_terms: bool = False, report: Callable[[str], None] = lambda line: None
) -> list[Path]:
    """Get everything a recipe lists; what is there already is checked, not fetched again.

    Args:
        name: a bundled recipe or a YAML file.
        accept_terms: the user's yes to terms that are unknown or not free.
        report: gets one line per step.

    Raises:
        ConfigError: terms that need a yes.
        WeightsMissing: no network, or the server refuses; the sentence says where to put a copy.
        WeightsCorrupt: what arrived, or what lies there, has another hash.
    """
    recipe, name = fetch_recipe(name), Path(name).stem
    if recipe.ask and not accept_terms:
        raise ConfigError(f"'{name}' comes under: {recipe.licence}. Say --accept-terms if you may use it.")
    done = []
    for remote in recipe.files:
        target = fetched_folder(name) / remote.path
        if target.is_file():
            _check(target, name, remote.path, remote.sha256)
            report(f"{target}: present, hash as recorded")
        else:
            report(f"{remote.url} -> {target}")
            _download(recipe, name, remote, target)
        done.append(target)
    for part in recipe.hub:
        done += _fetch_hub(recipe, name, part, report)
    return done


def _download(recipe: FetchRecipe, name: str, remote: RemoteFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(remote.url, timeout=60) as source, partial.open("wb") as sink:  # noqa: S310
            shutil.copyfileobj(source, sink, 1 << 20)
        found, wanted = sha256_of(partial), remote.sha256 or _locked(name).get(remote.path, {}).get("sha256")
        if wanted and found != wanted:
            raise WeightsCorrupt(
                f"{remote.url} gave a file with sha256 {found}, expected {wanted}: it was changed at its source or on "
                "its way, and is not kept."
            )
        partial.replace(target)
    except (urllib.error.URLError, OSError) as error:
        raise _missing(recipe, name, remote.path, str(getattr(error, "reason", error))) from error
    finally:
        partial.unlink(missing_ok=True)
    _lock(name, remote.path, target, remote.url, None)


def _fetch_hub(recipe: FetchRecipe, name: str, part: HubFiles, report: Callable[[str], None]) -> list[Path]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    folder = fetched_folder(name) / part.into
    prefix = "" if part.into == "." else f"{part.into}/"
    present = [path for path in _locked(name) if path.startswith(prefix) and _matches(path[len(prefix) :], part.files)]
    if present and all((fetched_folder(name) / path).is_file() for path in present):
        for path in present:
            _check(fetched_folder(name) / path, name, path, None)
        report(f"{folder}: {len(present)} files of {part.repo} present, hashes as recorded")
        return [fetched_folder(name) / path for path in present]
    report(f"{part.repo} -> {folder}")
    pinned = part.revision or next((_locked(name)[path]["revision"] for path in present), None)
    try:
        snapshot_download(part.repo, revision=pinned, allow_patterns=list(part.files), local_dir=folder)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise _missing(recipe, name, f"{prefix}{part.files[0]}", str(error).splitlines()[0]) from error
    found = [file for file in sorted(folder.rglob("*")) if file.is_file() and _wanted(file, folder, part.files)]
    if not found:
        raise _missing(recipe, name, f"{prefix}{part.files[0]}", f"{part.repo} holds no such file")
    for file in found:
        path = f"{prefix}{file.relative_to(folder).as_posix()}"
        if path in _locked(name):
            _check(file, name, path, None)
        _lock(name, path, file, part.repo, _hub_commit(folder, file) or pinned)
    return found


def _hub_commit(folder: Path, file: Path) -> str | None:
    """Read the commit that the Hub's client notes beside its downloads."""
    note = folder / ".cache" / "huggingface" / "download" / f"{file.relative_to(folder).as_posix()}.metadata"
    return note.read_text(encoding="utf-8").splitlines()[0].strip() if note.is_file() else None


def _wanted(file: Path, folder: Path, patterns: tuple[str, ...]) -> bool:
    relative = file.relative_to(folder).as_posix()
    return not relative.startswith(".cache/") and _matches(relative, patterns)


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)


def sha256_of(path: Path) -> str:
    """Return the hash of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        for block in iter(lambda: source.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _check(file: Path, name: str, path: str, known: str | None) -> None:
    """Hold a file to its hash; one that was checked and has not been touched since is not read again."""
    entry, stat = _locked(name).get(path, {}), file.stat()
    wanted = known or entry.get("sha256")
    if entry.get("sha256") == wanted and entry.get("checked") == [stat.st_size, stat.st_mtime_ns]:
        return
    found = sha256_of(file)
    if wanted and found != wanted:
        raise WeightsCorrupt(
            f"'{file}' has sha256 {found}, expected {wanted}: delete it and run `grefine fetch {name}` again."
        )
    _lock(name, path, file, entry.get("from", "placed by hand"), entry.get("revision"), found)


def _locked(name: str) -> dict[str, Any]:
    file = cache_folder() / LOCK
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8")).get(name, {})
    except (ValueError, AttributeError) as error:
        raise WeightsCorrupt(f"The lock file '{file}' is not readable JSON; delete it to record anew.") from error


def _lock(name: str, path: str, file: Path, origin: str, revision: str | None, sha256: str | None = None) -> None:
    lock, stat = cache_folder() / LOCK, file.stat()
    everything = json.loads(lock.read_text(encoding="utf-8")) if lock.is_file() else {}
    everything.setdefault(name, {})[path] = {
        "from": origin,
        "revision": revision,
        "sha256": sha256 or sha256_of(file),
        "checked": [stat.st_size, stat.st_mtime_ns],
    }
    partial = lock.with_name(f"{LOCK}.{os.getpid()}.part")
    partial.write_text(json.dumps(everything, indent=1, sort_keys=True), encoding="utf-8")
    partial.replace(lock)


def _missing(recipe: FetchRecipe, name: str, path: str, why: str = "") -> WeightsMissing:
    place = fetched_folder(name) / path
    origin = next((f.url for f in recipe.files if f.path == path), None)
    origin = origin or next((f"https://huggingface.co/{part.repo}" for part in recipe.hub), recipe.source)
    return WeightsMissing(
        f"'{path}' of {name} is not on this machine{f' and could not be fetched ({why})' if why else ''}: run "
        f"`grefine fetch {name}` with a network, or put a copy from {origin} at '{place}'."
    )
