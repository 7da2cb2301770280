"""The pictures a command was given, each with its prompt and a name for its results."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from grefine.errors import ImageError, PromptError
from grefine.io.images import read_image
from grefine.io.picture import LoadedImage
from grefine.io.prompt_table import read_prompt_table
from grefine.io.prompts import ChosenPrompt, PromptSources
from grefine.io.walk import pictures_of


@dataclass(frozen=True, slots=True)
class Picture:
    """One file, not yet read."""

    path: Path
    relative: str
    """Its path below the folder that was given, or its name."""
    name: str
    """What its results are called: `relative` without suffix, with it where two would collide."""


@dataclass(frozen=True, slots=True)
class ReadPicture:
    """One picture with what it is asked to show."""

    picture: Picture
    image: LoadedImage
    prompt: ChosenPrompt


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


def read_pictures(pictures: Sequence[Picture], prompts: PromptSources) -> Iterator[ReadPicture | tuple[Picture, str]]:
    """Read one picture after the other; a file that cannot be read comes back with the reason."""
    for picture in pictures:
        try:
            image = read_image(picture.path)
        except ImageError as error:
            yield picture, str(error)
            continue
        yield ReadPicture(picture, image, prompts.find(image, picture.relative))


def read_with_prompts(pictures: Sequence[Picture], prompts: PromptSources) -> Iterator[tuple[Image.Image, str]]:
    """Read pictures that must all be readable and have a prompt."""
    lacking: list[str] = []
    for found in read_pictures(pictures, prompts):
        if not isinstance(found, ReadPicture):
            raise ImageError(found[1])
        if not found.prompt.prompt:
            why = f" ({found.prompt.unsure})" if found.prompt.unsure else ""
            lacking.append(f"'{found.picture.relative}'{why}")
        elif not lacking:
            yield found.image.rgb, found.prompt.prompt
    if lacking:
        raise PromptError(
            f"{len(lacking)} of {len(pictures)} pictures have no prompt, {lacking[0]} first: "
            "give a table with --prompts."
        )
