"""Which files are to be refined and where each result goes, one at a time: a listing of any length streams."""

import fnmatch
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from grefine.errors import ConfigError
from grefine.folder.mirror import mirror_of
from grefine.folder.options import EXTENSIONS, FolderOptions
from grefine.io.images import SUFFIXES
from grefine.io.picture import printable
from grefine.io.places import Place, is_address, place_of, system_of, walk_address
from grefine.io.run_files import DATASET, RUN_FOLDERS, STATE_FOLDER, NameSet, with_ending
from grefine.io.samples import is_samples, list_samples, read_place
from grefine.io.walk import is_picture, is_walked

_LINK = "a symbolic link out of SRC, to a folder, to nothing or in a circle; --follow-links reads what can be read"


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One image: where it is, what it is called in the run, where its result goes."""

    source: Path | Place
    relative: str
    """Its path below SRC, with `/`; the name that journal and messages use."""
    name: str
    """The path of its result below OUT."""
    out: Path
    refused: str = ""
    """Why it cannot be taken, one sentence; empty for work to do."""
    failed: bool = False
    """True when that is a fault, not a choice."""

    @property
    def where(self) -> str:
        """What the journal notes of its source."""
        return os.fspath(self.source.absolute()) if isinstance(self.source, Path) else str(self.source)

    def read(self) -> bytes:
        """Return the picture's bytes."""
        return read_place(self.source)

    def state(self) -> dict[str, int]:
        """Return what tells cheaply whether the picture is still the one that it was; no user can set a ctime."""
        if isinstance(self.source, Path):
            status = os.stat(self.source)
            return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "ctime_ns": status.st_ctime_ns}
        return {"bytes": self.source.size, "mtime_ns": self.source.stamp, "ctime_ns": 0}

    @property
    def output(self) -> Path:
        """Where the result goes."""
        return self.out / self.name

    @property
    def panel(self) -> Path:
        """Where its before/map/after picture goes."""
        return self.out / "panels" / with_ending(self.name, ".png")


def list_work(sources: Iterable[str | Path], out: Path, options: FolderOptions) -> Iterator[WorkItem]:
    """Give the images of files, folders (whose trees are mirrored below `out`) and `@lists`, ordered by name."""
    return islice(_listed(list(dict.fromkeys(sources)), out, options), options.limit)


def _listed(sources: list[str | Path], out: Path, options: FolderOptions) -> Iterator[WorkItem]:
    mirror, walk = mirror_of(out), _Walk(out, options)
    walks: list[Iterator[WorkItem]] = []
    names: set[str] = set()
    for source in sources:
        text, folder = str(source), Path(source)
        if mirror and mirror.holds(text):
            raise ConfigError(f"OUT '{printable(mirror.address)}' is or holds the input '{printable(source)}'.")
        if isinstance(source, str) and text.startswith("@"):
            walks.append(walk.files(_read_list(text[1:])))
        elif is_address(source) or is_samples(text):
            name = _stem(os.path.basename(text.rstrip("/")))
            walks.append(walk.address(text, f"{name}/" if len(sources) > 1 else ""))
        elif folder.is_dir():
            # Inputs are never written: OUT may lie inside SRC, but not be it or hold it.
            if folder.resolve().is_relative_to(out.resolve()):
                raise ConfigError(
                    f"OUT '{printable(out)}' is or holds the input folder '{printable(folder)}': results could be "
                    "written over inputs. Choose a folder beside it or inside it."
                )
            name = folder.resolve().name or "root"
            if name in names:
                told = printable(name)
                raise ConfigError(
                    f"Two folders are called '{told}', or one is named twice: refine them one after the other."
                )
            names.add(name)
            walks.append(walk.folder(folder, f"{name}/" if len(sources) > 1 else ""))
        else:
            walks.append(walk.files([folder]))
    yield from chain.from_iterable(walks)


def expand_stdin(sources: list[str | Path]) -> list[str | Path]:
    """Replace `-` (or `@-`) by the paths on standard input, which can be read only once."""
    listed = (path for source in sources for path in (_read_list("-") if str(source) in ("-", "@-") else (source,)))
    return [str(path) if isinstance(path, Place) else path for path in listed]


def _read_list(name: str) -> Iterator[Path | Place]:
    """Yield the paths of a list file, one per line, or between NUL bytes as `find -print0` writes them."""
    try:
        file = os.fdopen(0, "rb", closefd=False) if name == "-" else open(name, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError(f"Cannot read the list '{printable(name)}': {error.strerror}.") from error
    with file:
        for line in file:
            for part in line.rstrip(b"\r\n").split(b"\0"):
                if part.strip():
                    name = os.fsdecode(part)
                    yield Place(name) if is_address(name) else Path(name)


class _Walk:
    """One pass over the sources; remembers what is taken, so that no two images share an output."""

    def __init__(self, out: Path, options: FolderOptions) -> None:
        self.out, self.options = out, options
        self.taken = NameSet()
        """Of one folder at a time, and of all files that are named one by one."""
        self.named = self.taken

    def files(self, paths: Iterable[Path | Place]) -> Iterator[WorkItem]:
        self.taken = self.named
        for path in paths:
            yield self.item(path, os.path.basename(str(path)) or str(path))

    def address(self, address: str, prefix: str) -> Iterator[WorkItem]:
        """Walk what is at an address: a data set, a picture, or a folder of them; or a data set of this machine."""
        if is_samples(address):
            yield from self.samples(address, prefix)
            return
        system, _ = system_of(address)
        mirror = mirror_of(self.out)
        for path, files in walk_address(address):
            ours = STATE_FOLDER in path.split("/") or (mirror and mirror.holds(f"{address.rstrip('/')}/{path}"))
            if ours or (path.count("/") and not self.options.recursive):
                continue
            self.taken = NameSet()
            names = [entry["name"].rpartition("/")[2] for entry in files]
            stems = _count_stems(set(names))
            for name, entry in zip(names, files, strict=True):
                if not self.wanted(name, f"{path}{name}"):
                    continue
                place = place_of(address, system, entry)
                if is_samples(name):
                    yield from self.samples(place.file, f"{prefix}{path}{_stem(name)}/")
                else:
                    yield self.item(place, f"{prefix}{path}{name}", "", stems[_stem(name)] > 1)

    def samples(self, file: str, prefix: str) -> Iterator[WorkItem]:
        self.taken = NameSet()
        for name, place in list_samples(file, self.options.prompt_column or None):
            yield self.item(place, f"{prefix}{name}")

    def folder(self, root: Path, prefix: str) -> Iterator[WorkItem]:
        try:
            inside = root.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"Cannot read the folder '{printable(root)}': {error}.") from error
        yield from self.below(root, prefix, "", inside, (inside,))

    def below(self, folder: Path, prefix: str, path: str, root: Path, above: tuple[Path, ...]) -> Iterator[WorkItem]:
        """Walk one folder: its files, then its folders, by name."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            reason = f"the folder cannot be read: {error.strerror or error}"
            yield self.item(folder, f"{prefix}{path}".rstrip("/") or folder.name, reason, failed=True)
            return
        names = {entry.name for entry in entries}
        stems = _count_stems(names)
        folders = []
        self.taken = NameSet()
        for entry in entries:
            relative = f"{path}{entry.name}"
            if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path)):
                folders.append((entry, relative))
            elif is_samples(entry.name) and self.wanted(entry.name, relative):
                yield from self.samples(entry.path, f"{prefix}{_stem(relative)}/")
                self.taken = NameSet()  # of another folder again
            elif self.wanted(entry.name, relative):
                refused = ""
                if entry.is_symlink() and not self.options.follow_links:
                    target = _target(entry.path)
                    inside = target and target.is_relative_to(root) and not target.is_relative_to(self.out.resolve())
                    refused = "" if inside else _LINK
                yield self.item(Path(entry.path), f"{prefix}{relative}", refused, stems[_stem(entry.name)] > 1)
        for entry, relative in folders if self.options.recursive else ():
            if not is_walked(entry.name, names) or _same(entry.path, self.out):
                continue
            chain = above
            if entry.is_symlink():
                target = _target(entry.path)
                circle = target and any(parent.is_relative_to(target) for parent in above)
                if not target or circle or _same(target, self.out) or not self.options.follow_links:
                    yield self.item(Path(entry.path), f"{prefix}{relative}", _LINK)
                    continue
                chain = (*above, target)
            yield from self.below(Path(entry.path), prefix, f"{relative}/", root, chain)

    def wanted(self, name: str, relative: str) -> bool:
        if self.options.pattern:
            return any(fnmatch.fnmatch(name, p) or fnmatch.fnmatch(relative, p) for p in self.options.pattern)
        return is_picture(name)

    def item(
        self, source: Path | Place, relative: str, refused: str = "", shared_stem: bool = False, failed: bool = False
    ) -> WorkItem:
        stem, extension = os.path.splitext(relative)
        wanted, kept = self.options.written_format, SUFFIXES.get(extension.lower())
        if wanted is None:
            ending = extension if kept in (*EXTENSIONS, None) else EXTENSIONS["PNG"]
        else:
            ending = extension if kept == wanted else EXTENSIONS[wanted]
        # photo.jpg and photo.png in one folder would both become photo.webp.
        stem = relative if ending != extension and shared_stem else stem
        name = f"{stem}{self.options.suffix}{ending}"
        new, top = self.taken.add(name), name.split("/")[0]
        if not refused:
            if not new:
                refused = f"another input of this run is already written to '{printable(name)}'"
            elif top in (*RUN_FOLDERS, *([DATASET] if self.options.dataset else [])):
                refused = f"'{top}' in OUT holds the run's own pictures; rename the folder"
            elif isinstance(source, Path) and _same(source, self.out / name):
                refused = "its result would be written over it; choose another OUT or a suffix"
            failed = bool(refused)
        return WorkItem(source, relative, name, self.out, refused, failed)


def _same(one: str | Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _target(link: str) -> Path | None:
    """Return where a symbolic link leads; None for nowhere."""
    try:
        return Path(link).resolve(strict=True)
    except (OSError, RuntimeError):
        return None


def _count_stems(names: set[str]) -> Counter[str]:
    return Counter(_stem(name) for name in names if os.path.splitext(name)[1].lower() in SUFFIXES)


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
