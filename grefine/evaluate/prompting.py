"""Prompts and groups of the compared images: from a table, else from sidecars and the files themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from grefine.errors import ConfigError, ImageError
from grefine.evaluate.pairs import Pairing
from grefine.io.images import read_image
from grefine.io.picture import printable
from grefine.io.prompt_table import PromptTable, read_prompt_table
from grefine.io.prompts import PromptSources

BY_FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Prompting:
    """What is known of the images beside their pixels."""

    prompts: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_prompting(pairing: Pairing, table: str | Path | None, group: str | None) -> Prompting:
    """Find each image's prompt and group."""
    if group not in (None, BY_FOLDER) and table is None:
        raise ConfigError(f"The group '{group}' is a column of the prompt table: give one, or group by '{BY_FOLDER}'.")
    names = {pair.name: pair.before for pair in pairing.pairs}
    notes: list[str] = []
    prompts: dict[str, str] = {}
    known = None
    if table is not None:
        known = read_prompt_table(table)
        notes.append(known.note)
        strangers = _strangers(known, names.values())
        if strangers:
            some = ", ".join(f"'{printable(name)}'" for name in strangers[:3]) + (
                ", ..." if len(strangers) > 3 else ""
            )
            notes.append(f"{len(strangers)} prompts name no image that was compared ({some}).")
    sources = PromptSources(known)
    for name, path in names.items():
        found = known.find(name, path)[0] if known else ""
        if not found:
            try:
                chosen = sources.find(read_image(path), name)
            except ImageError:
                continue
            found = chosen.prompt
            if chosen.unsure:
                notes.append(f"'{printable(name)}': {chosen.unsure}")
        if found:
            prompts[name] = found
    groups = _groups(names, table, group)
    ungrouped = len(names) - len(groups)
    if group and ungrouped:
        notes.append(f"{ungrouped} images have no '{group}' and are in no group.")
    return Prompting(prompts, groups, tuple(notes))


def _groups(names: dict[str, Path], table: str | Path | None, group: str | None) -> dict[str, str]:
    if group is None:
        return {}
    if group == BY_FOLDER:
        return {name: name.split("/")[0] if "/" in name else "(top folder)" for name in names}
    column = read_prompt_table(table, prompt_column=group)  # type: ignore[arg-type]
    return {name: found for name, path in names.items() if (found := column.find(name, path)[0])}


def _strangers(table: PromptTable, files: Iterable[Path]) -> list[str]:
    """Return names of the table that no compared file answers to."""
    answered: set[str] = set()
    for path in files:
        parts = path.absolute().as_posix().strip("/").split("/")
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            answered |= {tail, tail.rpartition(".")[0]}
    return [name for name in table.prompts if name not in answered]
