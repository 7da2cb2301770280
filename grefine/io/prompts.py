"""Which prompt belongs to an image: the first source that answers; what is unsure is said, not guessed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import ExifTags

from grefine.errors import ConfigError, GRefineError, ImageError
from grefine.io.embedded import exif_texts, user_comment
from grefine.io.generators.comfyui import read_comfyui
from grefine.io.generators.found import FoundPrompt, answer, first_answer, load_json, sound_text, text_of
from grefine.io.generators.infotext import read_infotext, read_parameters
from grefine.io.generators.invokeai import read_invokeai
from grefine.io.generators.novelai import read_novelai
from grefine.io.images import read_bytes
from grefine.io.picture import LoadedImage
from grefine.io.prompt_table import PromptTable, decoded
from grefine.io.record import read_record

ORDER = ("table", "sidecar", "metadata")
_KEYS = ("prompt", "positive_prompt", "caption", "text", "description")
"""Of a sidecar that is JSON."""
_MOST_BYTES = 8 * 2**20
_LAST = "prompt"
"""The one for all, which comes last unless the order names it."""
_NETWORK = re.compile(r"<(?:lora|lyco):([^<>:]{1,200})(?::([+-]?[\d.]{1,8}))?[^<>]{0,100}>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ChosenPrompt:
    """What an image is refined towards."""

    prompt: str
    """Empty: only perceptual quality is judged."""
    origin: str
    """Where it came from, in words; "none" without any."""
    unsure: str = ""
    """Why a source that was there gave no answer, one sentence."""
    loras: tuple[tuple[str, float], ...] = ()
    """Networks that the prompt names, with their weights."""
    set_aside: bool = False
    """True when one for all was given and this one came before it."""


@dataclass(frozen=True, slots=True)
class PromptSources:
    """Where prompts are looked for, in this order: table, sidecar, the image's own metadata, one for all."""

    table: PromptTable | None = None
    common: str | None = None
    order: tuple[str, ...] = ORDER
    follow_links: bool = False
    """Read sidecars that are symbolic links out of their folder."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.order if name not in (*ORDER, _LAST)]
        if unknown:
            known = ", ".join((*ORDER, _LAST))
            raise ConfigError(f"Prompts cannot be looked for in '{unknown[0]}': {known} are known.")

    def find(self, image: LoadedImage, relative: str, given: tuple[str, str] = ("", "")) -> ChosenPrompt:
        """Return the prompt of an image, or why there is none; `given` is what a data set says, and its name."""
        unsure = ""
        for name in dict.fromkeys((*self.order, _LAST)):
            try:
                found = self._ask(name, image, relative)
                found = found or (answer(*given) if name == "table" and given[0] else None)
            except GRefineError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a hostile text brings about, its picture can be judged
                found = FoundPrompt("", name, unsure=f"it cannot be read ({type(error).__name__})")
            if found is None:
                continue
            if not found.unsure:
                aside = bool(self.common) and name != _LAST
                return ChosenPrompt(found.prompt, found.origin, unsure, networks(found.prompt), aside)
            unsure = unsure or f"{found.origin}: {found.unsure}"
        return ChosenPrompt("", "none", unsure)

    def _ask(self, name: str, image: LoadedImage, relative: str) -> FoundPrompt | None:
        if name == "table" and self.table is not None:
            prompt, why = self.table.find(relative, image.path)
            origin = f"table {self.table.path.name}"
            return FoundPrompt("", origin, unsure=why) if why else answer(prompt, origin)
        if name == "sidecar" and image.path is not None:
            return first_answer(_sidecars(image.path, self.follow_links))
        if name == _LAST and self.common:
            return FoundPrompt(sound_text(self.common), "given for all")
        if name == "metadata":
            found = find_prompt(image)
            if found is None or found.unsure:
                # An output of ours remembers the prompt that came from a table or a sidecar.
                record = read_record(image.embedded)
                return (answer(record.prompt, "grefine record") if record is not None else None) or found
            return found
        return None


def networks(prompt: str) -> tuple[tuple[str, float], ...]:
    """Return the networks that a prompt asks for (`<lora:name:weight>`), weight 1 where none is given."""
    found: dict[str, float] = {}
    for match in _NETWORK.finditer(prompt):
        try:
            found[match.group(1).strip()] = float(match.group(2) or 1.0)
        except ValueError:
            continue
    return tuple(sorted(found.items()))


def _sidecars(image: Path, follow_links: bool) -> Iterator[FoundPrompt | None]:
    """Yield what `name.txt`, `name.png.txt` or `name.json` say; unsure where a file is there but tells none."""
    for path in (image.with_suffix(".txt"), Path(f"{image}.txt"), image.with_suffix(".json"), Path(f"{image}.json")):
        origin = f"sidecar {path.suffix}"
        try:
            if path == image or not path.is_file():
                continue
            data = b""
            # Such a link could put any file of this machine into a prompt.
            if not follow_links and path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
                yield FoundPrompt("", origin, unsure="it is a symbolic link out of the image's folder")
            elif path.stat().st_size:
                data = read_bytes(path, _MOST_BYTES)
        except (OSError, RuntimeError):  # a name that is too long for one more ending, a circle of links
            continue
        except ImageError as error:
            yield FoundPrompt("", origin, unsure=str(error).rstrip("."))
            continue
        try:
            text = decoded(data)
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        if data:
            yield _from_json(text, origin) if path.suffix == ".json" else _from_text(text, origin)


def _from_text(text: str, origin: str) -> FoundPrompt | None:
    """A whole infotext, as Automatic1111 saves beside its files, or the bare prompt."""
    found = read_infotext(text)
    return found and replace(found, origin=origin)


def _from_json(text: str, origin: str) -> FoundPrompt | None:
    data = load_json(text)
    if isinstance(data, str):
        return answer(data, origin)
    if isinstance(data, dict):
        for key in _KEYS:
            if isinstance(data.get(key), str) and data[key].strip():
                return answer(data[key], origin)
        if isinstance(data.get("parameters"), str):
            return _from_text(data["parameters"], origin)
    return FoundPrompt("", origin, unsure=f"the JSON beside it has none of {', '.join(_KEYS)}")


def find_prompt(image: LoadedImage) -> FoundPrompt | None:
    """Return what a file says of its prompt: an answer, a reason why it cannot be told, or None when it is silent."""
    return first_answer(_every_form(image))


def _every_form(image: LoadedImage) -> Iterator[FoundPrompt | None]:
    embedded = image.embedded
    parameters = text_of(embedded, "parameters")
    if parameters is not None:
        yield read_parameters(parameters, text_of(embedded, "fooocus_scheme"), strict=False)
    comment = user_comment(embedded.exif)
    if comment:
        yield read_parameters(comment, None, strict=True)
    name = image.path.name if image.path is not None else ""
    exif = exif_texts(embedded.exif) if embedded.exif else {}
    run = text_of(embedded, "prompt") or _after(exif, "prompt:")
    drawn = text_of(embedded, "workflow") or _after(exif, "workflow:")
    if run or drawn:
        yield read_comfyui(run, drawn, name)
    yield read_invokeai(embedded)
    yield read_novelai(embedded)


def _after(texts: dict[int, str], mark: str) -> str | None:
    """ComfyUI has no named texts in WebP: it writes `name:JSON` into EXIF fields, from Model downwards."""
    for tag in range(ExifTags.Base.Model, ExifTags.Base.Model - 12, -1):
        value = texts.get(tag, "")
        if value.lower().startswith(mark):
            return value[len(mark) :]
    return None
