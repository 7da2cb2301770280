"""Published weights: which files a recipe means, getting them once, and holding them to what was recorded."""

import errno
import fnmatch
import hashlib
import http.client
import json
import os
import shutil
import urllib.request
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from grefine.config import load_config
from grefine.errors import ConfigError, GRefineError, WeightsCorrupt, WeightsMissing, causes, in_words, nearest
from grefine.io.atomic import write_text
from grefine.io.content import content_hash
from grefine.resources import bundled, cache_folder

LOCK = "lock.json"
"""In the cache folder: what was fetched, from where, and the hash that every later look is held to."""
TERMS = "terms.json"
"""Beside it: terms that were accepted, by what they are of; asked for once per machine."""
Report = Callable[[str], None]
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk, a quota or a limit says that takes no more."""


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
    part: str | None = None
    """What it is called where one may leave it out."""

    def key(self, path: str) -> str:
        """Return where a file of the repository lies in the recipe's folder."""
        return path if self.into == "." else f"{self.into}/{path}"

    def paths(self) -> list[str]:
        """Return the names and patterns as they are in the recipe's folder."""
        return [self.key(pattern) for pattern in self.files]


@dataclass(frozen=True, slots=True)
class Needed:
    """Another recipe that is fetched along."""

    fetch: str
    part: str | None = None
    """What it is called where one may leave it out."""


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
    needs: tuple[Needed, ...] = ()

    def parts(self) -> list[str]:
        """Return what may be left out."""
        return list(dict.fromkeys(entry.part for entry in (*self.hub, *self.needs) if entry.part))


def _recipe_files() -> dict[str, Path]:
    """Return the recipes by name: those of the folder GREFINE_RECIPES win over ours of the same name."""
    own = [Path(os.environ["GREFINE_RECIPES"])] if os.environ.get("GREFINE_RECIPES") else []
    return {file.stem: file for folder in (bundled("configs") / "fetch", *own) for file in folder.glob("*.yaml")}


def fetch_names() -> list[str]:
    """Names that `grefine fetch` knows."""
    return sorted(_recipe_files())


def fetch_recipe(name: str) -> FetchRecipe:
    """Read the recipe of a name."""
    file = _recipe_files().get(name)
    if file is None:
        known = fetch_names()
        raise ConfigError(f"No fetch recipe '{name}': there are {', '.join(known)}{nearest(name, known)}")
    recipe = load_config(file, FetchRecipe)
    for remote in recipe.files:
        _refuse_outside(remote.path, f"'{file}': path")
        if not remote.url.lower().startswith(("http://", "https://")):
            raise ConfigError(f"'{file}': url '{remote.url}' must begin with https:// or http://.")
    for part in recipe.hub:
        for path in (part.into, *part.files):
            _refuse_outside(path, f"'{file}': a path of {part.repo}")
    return recipe


def may_fetch() -> bool:
    """Say whether weights come by themselves when something is named that needs them (GREFINE_FETCH=1)."""
    return os.environ.get("GREFINE_FETCH") == "1"


def accepted_terms(name: str, terms: str) -> bool:
    """Say whether these terms were accepted on this machine, in these words."""
    return _terms().get(name) == terms


def accept_terms_of(name: str, terms: str) -> None:
    """Keep a yes to terms; other words are asked for anew."""
    write_text(cache_folder() / TERMS, json.dumps(_terms() | {name: terms}, indent=1, sort_keys=True))


def _terms() -> dict[str, str]:
    try:
        found = json.loads((cache_folder() / TERMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def fetched_folder(name: str) -> Path:
    """Return where the files of a recipe lie, fetched or not."""
    return cache_folder() / name


def lacking(name: str, below: str = "") -> list[str]:
    """Return which files of a recipe, `below` a path of it, are not on this machine whole; nothing is hashed."""
    recipe, locked, home = fetch_recipe(name), _locked(name), fetched_folder(name)
    wanted = [file.path for file in recipe.files] + [path for part in recipe.hub for path in _wanted(part, locked)]
    inside = [path for path in dict.fromkeys(wanted) if _lies_below(path, below)]
    return [path for path in inside if not _whole(home, path, locked.get(path, {}))]


def require(name: str, below: str = "") -> None:
    """Hold the files of a recipe, `below` a path of it, to what was recorded; those untouched since are not read."""
    recipe, home = fetch_recipe(name), fetched_folder(name)
    for path in lacking(name, below)[:1]:
        raise _missing(recipe, name, path)
    known = {file.path: file.sha256 for file in recipe.files}
    patterns = [pattern for part in recipe.hub for pattern in part.paths()]
    found = {file.relative_to(home).as_posix() for pattern in patterns for file in home.glob(pattern)}
    for path in sorted(found | known.keys()):
        if _lies_below(path, below):
            _check(home / path, name, path, known.get(path))


def _lies_below(path: str, place: str) -> bool:
    return not place or path == place or path.startswith(f"{place}/")


def is_recorded(name: str) -> bool:
    """Say whether a fetch of a recipe has begun, complete or not."""
    return bool(_locked(name))


def fetched_weights(name: str) -> Path:
    """Return what a recipe brings, held to what was recorded: its folder, or its file where it is a single one."""
    require(name)
    files = [path for part in fetch_recipe(name).hub for path in part.files]
    return fetched_folder(name) / files[0] if len(files) == 1 else fetched_folder(name)


def fetched(name: str, path: str) -> Path:
    """Return one fetched file, checked against the lock."""
    require(name, path)
    if not (fetched_folder(name) / path).is_file():  # a recipe of one's own may list other files
        raise _missing(fetch_recipe(name), name, path)
    return fetched_folder(name) / path


def fetch(
    name: str, *, without: Collection[str] = (), accept_terms: bool = False, report: Report = lambda line: None
) -> list[Path]:
    """Get everything a recipe lists and needs; what is there already is checked, not fetched again."""
    try:
        return _fetch(name, without, accept_terms, report)
    except (OSError, GRefineError) as error:
        if not any(isinstance(one, OSError) and one.errno in FULL for one in causes(error)):
            raise
        raise WeightsMissing(
            f"The disk of '{cache_folder()}' takes no more, so '{name}' is not fetched whole: free space "
            f"there, or name a folder elsewhere in GREFINE_CACHE, and run `grefine fetch {name}` again."
        ) from error


def _fetch(name: str, without: Collection[str], accept_terms: bool, report: Report) -> list[Path]:
    recipe = fetch_recipe(name)
    unknown = sorted(set(without) - set(recipe.parts()))
    if unknown:
        parts = ", ".join(recipe.parts()) or "none at all"
        raise ConfigError(f"'{name}' has no part '{unknown[0]}' to leave out; it has {parts}.")
    if recipe.ask and accept_terms:
        accept_terms_of(name, recipe.licence)
    if recipe.ask and not accepted_terms(name, recipe.licence):
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
        if part.part not in without:
            done += _fetch_hub(recipe, name, part, report)
    for other in recipe.needs:
        terms = fetch_recipe(other.fetch)
        if terms.ask and not (accept_terms or accepted_terms(other.fetch, terms.licence)):
            report(f"{other.fetch}: left out, it comes under: {terms.licence}. Say --accept-terms if you may use it.")
        elif other.part not in without:
            done += _fetch(other.fetch, (), accept_terms, report)
    return done


def _wanted(part: HubFiles, locked: dict[str, Any]) -> list[str]:
    """Return the files that one repository must have given: by name, and by pattern as far as its listing tells."""
    patterns = part.paths()
    known = [path for path in locked if _matches(path, patterns)]
    named = [pattern for pattern in patterns if "*" not in pattern]
    unmet = [pattern for pattern in patterns if not any(fnmatch.fnmatch(path, pattern) for path in known)]
    return list(dict.fromkeys([*named, *known, *unmet]))


def _whole(home: Path, path: str, entry: dict[str, Any]) -> bool:
    """Say whether a file (or one that fits a pattern) is there with the size that was recorded."""
    if "*" in path:
        return any(file.is_file() for file in home.glob(path))
    file, size = home / path, entry.get("size")
    return file.is_file() and (size is None or file.stat().st_size == size)


def _download(recipe: FetchRecipe, name: str, remote: RemoteFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(remote.url, timeout=60) as source, partial.open("wb") as sink:  # noqa: S310
            shutil.copyfileobj(source, sink, 1 << 20)
            said = source.headers.get("Content-Length")
        if said is not None and partial.stat().st_size != int(said):
            raise OSError(f"the server cut it off after {partial.stat().st_size} of {said} bytes")
        found, wanted = content_hash(partial), remote.sha256 or _locked(name).get(remote.path, {}).get("sha256")
        if wanted and found != wanted:
            raise WeightsCorrupt(f"{remote.url} gave sha256 {found}, expected {wanted}, and is not kept.")
        partial.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise _missing(recipe, name, remote.path, str(getattr(error, "reason", error))) from error
    finally:
        partial.unlink(missing_ok=True)
    _lock(name, {remote.path: _entry(target, remote.url, None, found)})


def _fetch_hub(recipe: FetchRecipe, name: str, part: HubFiles, report: Report) -> list[Path]:
    """Get the files of one repository: from the hub's own cache, or one by one from the hub, each checked at once."""
    home, locked = fetched_folder(name), _locked(name)
    wanted = _wanted(part, locked)
    first = next((path for path in wanted if not _whole(home, path, locked.get(path, {}))), None)
    if first is not None:
        report(f"{part.repo} -> {home / part.into}")
        pins = {entry["revision"] for path, entry in locked.items() if path in wanted and entry.get("checked")}
        revision = part.revision or next((pin for pin in pins if pin), None)
        try:
            if not _from_hub_cache(name, part, revision, report):
                _from_hub(name, part, revision)
        except GRefineError:
            raise
        except Exception as error:  # the hub's client speaks through requests, httpx or httpx2: no common base
            raise _missing(recipe, name, first, _reason(error, part.repo)) from error
    else:
        report(f"{home / part.into}: {len(wanted)} files of {part.repo} present, hashes as recorded")
    found = [path for path in _wanted(part, _locked(name)) if "*" not in path]
    for path in found:
        if not (home / path).is_file():
            raise _missing(recipe, name, path, f"{part.repo} holds no such file")
        _check(home / path, name, path, None)
    shutil.rmtree(home / part.into / ".cache", ignore_errors=True)  # what killed downloads left behind
    return [home / path for path in sorted(found)]


def _from_hub_cache(name: str, part: HubFiles, revision: str | None, report: Report) -> bool:
    """Link what the hub's client has in its own cache; False where that is not everything."""
    from huggingface_hub import snapshot_download

    try:
        asked: dict[str, Any] = {"revision": revision, "allow_patterns": list(part.files)}
        snapshot = Path(snapshot_download(part.repo, local_files_only=True, **asked))
    except (OSError, ValueError):
        return False
    files = {file.relative_to(snapshot).as_posix(): file for file in snapshot.rglob("*") if file.is_file()}
    chosen = {path: file for path, file in files.items() if _matches(path, part.files)}
    if not all(any(fnmatch.fnmatch(path, pattern) for path in chosen) for pattern in part.files):
        return False
    report(f"{part.repo}: from the hub's own cache, {snapshot}")
    entries, home = {}, fetched_folder(name)
    for path, file in chosen.items():
        key = part.key(path)
        target = home / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(file.resolve(), target)
        except OSError:  # other disks, and file systems without links
            shutil.copyfile(file, target)
        entries[key] = _entry(target, part.repo, snapshot.name, content_hash(target))
    _refuse_change(name, entries)
    _lock(name, entries)
    return True


def _from_hub(name: str, part: HubFiles, revision: str | None) -> None:
    from huggingface_hub import HfApi, hf_hub_download

    endpoint = os.environ.get("HF_ENDPOINT")
    api = HfApi(endpoint=endpoint)
    commit = str(api.model_info(part.repo, revision=revision).sha)
    tree = api.list_repo_tree(part.repo, recursive=True, revision=commit)
    listed = {item.path: item for item in tree if hasattr(item, "blob_id") and _matches(item.path, part.files)}
    for path in listed:
        _refuse_outside(path, f"{part.repo} lists a file that")
    entries: dict[str, Any] = {}
    for path, item in listed.items():
        told = {"sha256": item.lfs.sha256, "blob": None} if item.lfs else {"sha256": None, "blob": item.blob_id}
        entries[part.key(path)] = {"from": part.repo, "revision": commit, "size": item.size, "checked": None} | told
    _refuse_change(name, entries)
    locked, home = _locked(name), fetched_folder(name)
    _lock(name, {path: entry for path, entry in entries.items() if not locked.get(path, {}).get("checked")})
    for path in listed:
        key = part.key(path)
        target = home / key
        if not _whole(home, key, entries[key]):
            target.unlink(missing_ok=True)
            hf_hub_download(part.repo, path, revision=commit, local_dir=home / part.into, endpoint=endpoint)
        try:
            _check(target, name, key, None)
        except WeightsCorrupt as error:
            target.unlink(missing_ok=True)
            raise WeightsCorrupt(
                f"'{path}' of {part.repo} arrived as another file than its listing says: it was changed on its way, "
                f"and is not kept; run `grefine fetch {name}` again."
            ) from error


def _reason(error: Exception, repo: str) -> str:
    """Say in a few words why the hub gave nothing."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repo}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids the network"
    if isinstance(error, errors.GatedRepoError):
        return f"its owner asks for consent: accept the terms at {page} and log in with `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{page} does not exist, or needs a login with `hf auth login`"
    return in_words(error)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)


def _refuse_outside(path: str, what: str) -> None:
    """Refuse a path that does not stay below the folder it is meant for."""
    plain = PurePosixPath(path.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts or ":" in path or not path:
        raise ConfigError(f"{what} '{path}' leads out of its folder: give a path below it, without '..'.")


def _check(file: Path, name: str, path: str, known: str | None) -> None:
    """Hold a file to its hash; one that was checked and has not been touched since is not read again."""
    entry, stat = _locked(name).get(path, {}), file.stat()
    wanted = known or entry.get("sha256")
    if entry.get("sha256") == wanted and entry.get("checked") == [stat.st_size, stat.st_mtime_ns]:
        return
    found = content_hash(file)
    if wanted and found != wanted:
        raise WeightsCorrupt(f"'{file}' has sha256 {found}, not {wanted}: delete it and run `grefine fetch {name}`.")
    listed, head = entry.get("blob"), f"blob {stat.st_size}\0".encode()  # git's name for it, if it is a small file
    if listed and hashlib.sha1(head + file.read_bytes(), usedforsecurity=False).hexdigest() != listed:
        raise WeightsCorrupt(f"'{file}' is not the file that was listed: delete it and run `grefine fetch {name}`.")
    origin = entry.get("from", "placed by hand")
    _lock(name, {path: entry | _entry(file, origin, entry.get("revision"), found)})


def _entry(file: Path, origin: str, revision: str | None, sha256: str) -> dict[str, Any]:
    stat = file.stat()
    checked = [stat.st_size, stat.st_mtime_ns]
    return {"from": origin, "revision": revision, "sha256": sha256, "size": stat.st_size, "checked": checked}


def _refuse_change(name: str, entries: dict[str, Any]) -> None:
    """Refuse what differs from a file that was recorded before."""
    for path, entry in entries.items():
        known = _locked(name).get(path, {})
        if known.get("checked") and known.get("sha256") and entry["sha256"] not in (None, known["sha256"]):
            raise WeightsCorrupt(f"'{path}' was changed at its source, {entry['from']}, and is not taken.")


def _locked(name: str) -> dict[str, Any]:
    return _read_lock().get(name, {})


def _read_lock() -> dict[str, Any]:
    file = cache_folder() / LOCK
    if not file.is_file():
        return {}
    with suppress(ValueError, AttributeError):
        found = json.loads(file.read_text(encoding="utf-8"))
        if all(isinstance(entry, dict) for files in found.values() for entry in files.values()):
            return found
    raise WeightsCorrupt(f"The lock file '{file}' is not readable JSON of files; delete it to record anew.")


def _lock(name: str, entries: dict[str, Any]) -> None:
    """Record files, all at once."""
    everything = _read_lock()
    everything.setdefault(name, {}).update(entries)
    write_text(cache_folder() / LOCK, json.dumps(everything, indent=1, sort_keys=True))


def _missing(recipe: FetchRecipe, name: str, path: str, why: str = "") -> WeightsMissing:
    place = fetched_folder(name) / path
    origins = [f.url for f in recipe.files if f.path == path]
    origins += [f"https://huggingface.co/{part.repo}" for part in recipe.hub if path.startswith(part.key(""))]
    origin = [*origins, recipe.source][0]
    return WeightsMissing(
        f"'{path}' of {name} is not on this machine{f' and could not be fetched ({why})' if why else ''}: run "
        f"`grefine fetch {name}` with a network, or put a copy from {origin} at '{place}'."
    )
