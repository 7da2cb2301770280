"""The pictures a command was given, each with its prompt and a name for its results."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from grefine.errors import PromptError
from grefine.io.images import read_image
from grefine.io.prompt_table import read_prompt_table
from grefine.io.prompts import PromptSources
from grefine.io.walk import pictures_of


@dataclass(frozen=True, slots=True)
class Picture:
    """One file, not yet read."""

    path: Path
    relative: str
    """Its path below the folder that was given, or its name."""
    name: str
    """What its results are called: `relative` without suffix, with it where two would collide."""


def list_pictures(sources: Sequence[Path]) -> list[Picture]:
    """Return the image files of `sources` (files, or folders with everything below them), sorted within a folder."""
    found = pictures_of(sources)
    stems = [Path(relative).with_suffix("").as_posix() for _, relative in found]
    counts = Counter(stems)
    return [
        Picture(path, relative, stem if counts[stem] == 1 else relative)
        for (path, relative), stem in zip(found, stems, strict=True)
    ]


def prompt_sources(prompt: str | None, table: Path | None) -> PromptSources:
    """Return where prompts are looked for: the table, sidecars, the files' own metadata, then one for all."""
    return PromptSources(table=None if table is None else read_prompt_table(table), common=prompt)


def read_with_prompts(pictures: Sequence[Picture], prompts: PromptSources) -> Iterator[tuple[Image.Image, str]]:
    """Read pictures that must all be readable and have a prompt."""
    lacking: list[str] = []
    for picture in pictures:
        image = read_image(picture.path)
        found = prompts.find(image, picture.relative)
        if not found.prompt:
            why = f" ({found.unsure})" if found.unsure else ""
            lacking.append(f"'{picture.relative}'{why}")
        elif not lacking:
            yield image.rgb, found.prompt
    if lacking:
        raise PromptError(
            f"{len(lacking)} of {len(pictures)} pictures have no prompt, {lacking[0]} first: "
            "give a table with --prompts."
        )
