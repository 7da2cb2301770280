"""Which prompt belongs to an image: the first source that answers; what is unsure is said, not guessed."""

import re
from dataclasses import dataclass

from grefine.errors import ConfigError, GRefineError
from grefine.io.generators.found import FoundPrompt, answer, sound_text
from grefine.io.metadata import find_prompt
from grefine.io.picture import LoadedImage
from grefine.io.prompt_table import PromptTable
from grefine.io.record import read_record
from grefine.io.sidecar import read_sidecar

ORDER = ("table", "sidecar", "metadata")
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
        """Return the prompt of an image, with why there is none when there is none.

        `given` is what a data set says of it, and how that is called; a table of prompts goes before it.
        """
        unsure = ""
        for name in self.order:
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
        last = self._ask(_LAST, image, relative)
        if last is not None:
            return ChosenPrompt(last.prompt, last.origin, unsure, networks(last.prompt))
        return ChosenPrompt("", "none", unsure)

    def _ask(self, name: str, image: LoadedImage, relative: str) -> FoundPrompt | None:
        if name == "table" and self.table is not None:
            prompt, why = self.table.find(relative, image.path)
            origin = f"table {self.table.path.name}"
            return FoundPrompt("", origin, unsure=why) if why else answer(prompt, origin)
        if name == "sidecar" and image.path is not None:
            return read_sidecar(image.path, self.follow_links)
        if name == _LAST and self.common:
            return FoundPrompt(sound_text(self.common), "given for all")
        if name == "metadata":
            found = find_prompt(image)
            return found if found is not None and not found.unsure else _from_record(image) or found
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


def _from_record(image: LoadedImage) -> FoundPrompt | None:
    """An output of ours remembers the prompt that came from a table or a sidecar."""
    record = read_record(image.embedded)
    return answer(record.prompt, "grefine record") if record is not None else None
