"""InvokeAI: `invokeai_metadata` today, `sd-metadata` and `Dream` before."""

import re

from grefine.io.embedded import Embedded
from grefine.io.generators.found import FoundPrompt, answer, load_json, text_of

ORIGIN = "InvokeAI metadata"
_NEGATIVE = re.compile(r"\[[^\[\]]*\]")
_DREAM = re.compile(r'^"(.*)"\s+-', re.DOTALL)


def read_invokeai(embedded: Embedded) -> FoundPrompt | None:
    """Return the prompt of an InvokeAI file, whichever of its forms it has."""
    data = load_json(text_of(embedded, "invokeai_metadata"))
    if isinstance(data, dict):
        if found := answer(data.get("positive_prompt"), ORIGIN):
            return found
        # Files of the first node-based versions keep the session's nodes.
        node = data.get("node_data") or data.get("image") or {}
        prompt = node.get("prompt") if isinstance(node, dict) else None
        if isinstance(prompt, str):
            return _with_brackets(prompt)
    data = load_json(text_of(embedded, "sd-metadata"))
    if isinstance(data, dict) and isinstance(data.get("image"), dict):
        return _with_brackets(_joined(data["image"].get("prompt")))
    dream = text_of(embedded, "Dream") or text_of(embedded, "dream")
    match = _DREAM.match(dream) if dream else None
    return _with_brackets(match.group(1)) if match else None


def _joined(prompt: object) -> str:
    """A prompt is a text, or a list of weighted parts."""
    if isinstance(prompt, list):
        parts = [part.get("prompt") if isinstance(part, dict) else part for part in prompt]
        return ", ".join(part for part in parts if isinstance(part, str))
    return prompt if isinstance(prompt, str) else ""


def _with_brackets(prompt: str) -> FoundPrompt | None:
    """Old versions write what is unwanted in square brackets inside the prompt."""
    return answer(" ".join(_NEGATIVE.sub(" ", prompt).split()), ORIGIN)
