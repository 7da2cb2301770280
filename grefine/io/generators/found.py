"""What a reader answers, and how the readers open texts that nobody vouches for."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from grefine.io.embedded import Embedded

LONGEST_JSON = 32 * 2**20
LONGEST_PROMPT = 100_000


@dataclass(frozen=True, slots=True)
class FoundPrompt:
    """A prompt and where it was found, or why it could not be told."""

    prompt: str
    """As the generator wrote it, weights and `<lora:...>` included; empty when `unsure`."""
    origin: str
    """In words: "A1111 infotext", "ComfyUI graph", ..."""
    unsure: str = ""
    """Why there is something but no answer, one sentence; empty for an answer."""

    def __post_init__(self) -> None:
        for name in ("prompt", "origin", "unsure"):
            object.__setattr__(self, name, sound_text(getattr(self, name)))


def sound_text(text: str) -> str:
    """Return a text without halves of characters, which JSON can spell but no file, page or tokenizer takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def answer(prompt: Any, origin: str) -> FoundPrompt | None:
    """Return an answer for a non-empty text of bearable length, an unsure one for a giant, None for anything else."""
    if not isinstance(prompt, str) or not prompt.strip():
        return None
    if len(prompt) > LONGEST_PROMPT:
        return FoundPrompt("", origin, unsure=f"its prompt has {len(prompt):,} characters, which no generator draws")
    return FoundPrompt(prompt.strip(), origin)


def first_answer(forms: Iterable[FoundPrompt | None]) -> FoundPrompt | None:
    """Return the first answer; without one the first reason why there is none."""
    unclear: FoundPrompt | None = None
    for found in forms:
        if found is not None and not found.unsure:
            return found
        unclear = unclear or found
    return unclear


def load_json(text: str | None) -> Any:
    """Return what a JSON text holds; None when it is none, too large or nested beyond reason."""
    if not text or len(text) > LONGEST_JSON:
        return None
    text = text.strip().strip("\x00")
    if not text.startswith(("{", "[", '"')):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def text_of(embedded: Embedded, key: str) -> str | None:
    """Return a text by name; UTF-8 that was put into a Latin-1 chunk, as many programs do, is read as meant."""
    chunk = next((chunk for chunk in embedded.texts if chunk.key == key), None)
    if chunk is not None and chunk.kind == "tEXt":
        with suppress(UnicodeError):
            return chunk.value.encode("latin-1").decode("utf-8")
    return chunk and chunk.value
