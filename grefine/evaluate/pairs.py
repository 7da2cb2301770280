"""Which images belong together, by path relative to the two folders, and their prompts and groups."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grefine.errors import ConfigError, ImageError
from grefine.io.images import read_image
from grefine.io.picture import printable
from grefine.io.prompt_table import read_prompt_table
from grefine.io.prompts import PromptSources
from grefine.io.walk import LOOKED_FOR, pictures_below


@dataclass(frozen=True, slots=True)
class Pairing:
    """What two folders have in common, by the input's path relative to its folder, and what not."""

    before: Mapping[str, Path] = field(default_factory=dict)
    after: Mapping[str, Path] = field(default_factory=dict)
    only_before: tuple[str, ...] = ()
    only_after: tuple[str, ...] = ()


def image_files(folder: str | Path) -> dict[str, Path]:
    """Return the images below `folder` by relative path, sorted, without hidden ones and a run's own panels."""
    root = Path(folder)
    if not root.is_dir():
        what = "is a file" if root.is_file() else "does not exist"
        raise ConfigError(f"'{root}' {what}: give a folder of images.")
    return dict(sorted((path.relative_to(root).as_posix(), path) for path in pictures_below(root)))


def pair_folders(before: str | Path, after: str | Path) -> Pairing:
    """Pair the images of two folders: the same relative path first, then the same path with another image suffix."""
    left, right = image_files(before), image_files(after)
    matches = match_names(left, right)
    if not matches:
        raise ConfigError(
            f"'{before}' ({some_names([*left]) or 'no images'}) and '{after}' ({some_names([*right]) or 'no images'}) "
            f"have none in common ({LOOKED_FOR}): they are paired by their path inside the folders, so keep names and "
            "sub-folders."
        )
    taken = set(matches.values())
    return Pairing(
        {name: left[name] for name in matches},
        {name: right[other] for name, other in matches.items()},
        tuple(name for name in left if name not in matches),
        tuple(name for name in right if name not in taken),
    )


def match_names(left: Mapping[str, Path], right: Mapping[str, Path]) -> dict[str, str]:
    """Return name → counterpart, where there is just one."""
    matches = {name: name for name in left if name in right}
    free_left, free_right = _by_stem(left, matches.keys()), _by_stem(right, set(matches.values()))
    for stem, names in free_left.items():
        others = free_right.get(stem, [])
        if len(names) == len(others) == 1:
            matches[names[0]] = others[0]
    return dict(sorted(matches.items()))


def _by_stem(files: Mapping[str, Path], taken: Collection[str]) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = {}
    for name in files:
        if name not in taken:
            stems.setdefault(str(Path(name).with_suffix("")), []).append(name)
    return stems


BY_FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Prompting:
    """What is known of the images beside their pixels."""

    prompts: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_prompting(names: Mapping[str, Path], table: str | Path | None, group: str | None) -> Prompting:
    """Find the prompt and the group of each image, name → file."""
    if group not in (None, BY_FOLDER) and table is None:
        raise ConfigError(f"The group '{group}' is a column of the prompt table: give one, or group by '{BY_FOLDER}'.")
    notes: list[str] = []
    prompts: dict[str, str] = {}
    known = None if table is None else read_prompt_table(table)
    if known:
        notes.append(known.note)
        answered: set[str] = set()
        for path in names.values():
            parts = path.absolute().as_posix().strip("/").split("/")
            tails = ["/".join(parts[start:]) for start in range(len(parts))]
            answered.update(tails, (tail.rpartition(".")[0] for tail in tails))
        if strangers := [name for name in known.prompts if name not in answered]:
            notes.append(f"{len(strangers)} prompts name no image that was compared ({some_names(strangers)}).")
    sources = PromptSources(known)
    for name, path in names.items():
        prompt = known.find(name, path)[0] if known else ""
        if not prompt:
            try:
                chosen = sources.find(read_image(path), name)
            except ImageError:
                continue
            prompt = chosen.prompt
            notes += [f"'{printable(name)}': {chosen.unsure}"] if chosen.unsure else []
        if prompt:
            prompts[name] = prompt
    if group == BY_FOLDER:
        groups = {name: name.split("/")[0] if "/" in name else "(top folder)" for name in names}
    elif group is not None and table is not None:
        column = read_prompt_table(table, prompt_column=group)
        groups = {name: found for name, path in names.items() if (found := column.find(name, path)[0])}
    else:
        groups = {}
    ungrouped = len(names) - len(groups)
    if group and ungrouped:
        notes.append(f"{ungrouped} images have no '{group}' and are in no group.")
    return Prompting(prompts, groups, tuple(notes))


def some_names(names: Sequence[str]) -> str:
    """Return the first three names."""
    return ", ".join(f"'{printable(name)}'" for name in names[:3]) + (", ..." if len(names) > 3 else "")
