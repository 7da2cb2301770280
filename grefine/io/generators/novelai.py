"""NovelAI: `Software` and a `Comment` of JSON; the same hidden in the lowest bits of alpha."""

import zlib
from typing import Any

import numpy as np
from PIL import Image

from grefine.io.embedded import Embedded
from grefine.io.generators.found import FoundPrompt, answer, load_json, text_of
from grefine.io.generators.infotext import read_infotext

ORIGIN = "NovelAI comment"
_MARKS = (b"stealth_pngcomp", b"stealth_pnginfo")
_LARGEST = 4 * 2**20


def read_novelai(embedded: Embedded) -> FoundPrompt | None:
    """Return the prompt of a NovelAI file from its texts."""
    comment = load_json(text_of(embedded, "Comment"))
    software = text_of(embedded, "Software") or ""
    if not isinstance(comment, dict) or not ("uc" in comment or software.startswith("NovelAI")):
        return None
    return _from_comment(comment, text_of(embedded, "Description"))


def read_stealth(alpha: Image.Image | None) -> FoundPrompt | None:
    """Return the prompt that is hidden in an alpha channel, by NovelAI or by the extensions that do the same."""
    if alpha is None:
        return None
    # Bits run down the columns.
    values = np.asarray(alpha)
    first = -(-(len(_MARKS[0]) + 4) * 8 // values.shape[0])
    head = np.packbits(values[:, :first].T.ravel() & 1).tobytes()
    mark = head[: len(_MARKS[0])]
    if mark not in _MARKS or len(head) < len(mark) + 4:
        return None
    bits = int.from_bytes(head[len(mark) : len(mark) + 4], "big")
    start = (len(mark) + 4) * 8
    if bits > min(values.size - start, _LARGEST * 8):
        return None
    body = np.packbits((values.T.ravel() & 1)[start : start + bits]).tobytes()
    try:
        body = zlib.decompressobj(wbits=31).decompress(body, _LARGEST) if mark == _MARKS[0] else body
    except zlib.error:
        return None
    text = body.decode("utf-8", "replace")
    data = load_json(text)
    if not isinstance(data, dict):
        return read_infotext(text, strict=True) if text else None
    comment = data.get("Comment", data)
    comment = load_json(comment) if isinstance(comment, str) else comment
    return _from_comment(comment, data.get("Description")) if isinstance(comment, dict) else None


def _from_comment(comment: dict[str, Any], description: Any) -> FoundPrompt | None:
    prompt = comment.get("prompt") or description
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
