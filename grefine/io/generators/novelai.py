"""NovelAI: `Software` and a `Comment` of JSON."""

from typing import Any

from grefine.io.embedded import Embedded
from grefine.io.generators.found import FoundPrompt, answer, load_json, text_of

ORIGIN = "NovelAI comment"


def read_novelai(embedded: Embedded) -> FoundPrompt | None:
    """Return the prompt of a NovelAI file from its texts."""
    comment = load_json(text_of(embedded, "Comment"))
    software = text_of(embedded, "Software") or ""
    if not isinstance(comment, dict) or not ("uc" in comment or software.startswith("NovelAI")):
        return None
    prompt = comment.get("prompt") or text_of(embedded, "Description")
    parts = [prompt] if isinstance(prompt, str) else []
    caption = _at(comment, "v4_prompt", "caption")
    # From version 4 on every character has a caption of its own.
    if isinstance(caption, dict):
        parts = parts or [caption.get("base_caption")]
        characters = caption.get("char_captions")
        for character in characters if isinstance(characters, list) else ():
            parts.append(_at(character, "char_caption"))
    return answer(", ".join(p for p in parts if isinstance(p, str) and p.strip()), ORIGIN)


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
