"""What stands in `parameters` or the user comment: the infotext of Automatic1111, or the JSON of those after it."""

import json
import re
from typing import Any

from grefine.io.generators.found import FoundPrompt, answer, load_json

_FOOOCUS = ("full_prompt", "base_model", "performance", "Base Model", "Performance", "metadata_scheme")
_SECTION = re.compile(r"<(?:segment|object|clear|refiner|video|videoswap|extend)\b[^<>]*>")
_SWITCH = re.compile(r"</?(?:base|break)>")
_SETTINGS = re.compile(r"^Steps: \d+(,|$)", re.MULTILINE)
_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_NEGATIVE = re.compile(r"^Negative prompt:", re.MULTILINE)
_RAW_PROMPT = re.compile(r'(?:^|, )Raw prompt: ("(?:\\.|[^\\"])*"|[^,]*)')
_LONGEST_LINE = 4_000
"""Of a line that may be settings: looking for pairs in it takes the square of its length."""


def read_parameters(text: str, scheme: str | None, strict: bool) -> FoundPrompt | None:
    """Return the prompt of an infotext or of JSON; `scheme` is what Fooocus says that it wrote, where it was kept."""
    data = load_json(text)
    if not isinstance(data, dict):
        return read_infotext(text, strict) if data is None else None
    if "sui_image_params" in data:
        return _from_swarmui(data["sui_image_params"])
    if scheme is not None or any(key in data for key in _FOOOCUS):
        # `prompt` is as typed, `full_prompt` has the styles.
        prompt = data.get("prompt", data.get("Prompt"))
        if not prompt and isinstance(data.get("full_prompt"), list):
            prompt = ", ".join(part for part in data["full_prompt"] if isinstance(part, str))
        if found := answer(prompt, "Fooocus parameters"):
            return found
    # An online generator that writes a ComfyUI graph into the user comment puts its own words beside it.
    extra = data.get("extraMetadata")
    extra = load_json(extra) if isinstance(extra, str) else extra
    return answer(extra.get("prompt"), "extraMetadata") if isinstance(extra, dict) else None


def _from_swarmui(params: Any) -> FoundPrompt | None:
    """Read SwarmUI's JSON; what follows `<segment:...>` and the like describes later passes."""
    if not isinstance(params, dict) or not isinstance(params.get("prompt"), str):
        return None
    prompt = _SWITCH.sub(", ", _SECTION.split(params["prompt"], maxsplit=1)[0])
    return answer(prompt.strip(" ,"), "SwarmUI parameters")


def read_infotext(text: str, strict: bool = False) -> FoundPrompt | None:
    """Return the prompt of an infotext of Automatic1111, Forge or SD.Next: prompt, negative prompt, and settings."""
    body, settings = text.replace("\r\n", "\n"), ""
    if starts := list(_SETTINGS.finditer(body)):
        start = starts[-1].start()
        body, settings = body[:start], body[start:]
    else:
        # Without a `Steps:` line, the last line counts when it has three pairs, as upstream.
        before, _, last = body.strip().rpartition("\n")
        if before and len(last) <= _LONGEST_LINE and len(_PAIR.findall(last)) >= 3:
            body, settings = before, last
    if strict and not settings:
        return None
    prompt = _NEGATIVE.split(body, maxsplit=1)[0]
    # Fooocus joins the lines of the prompt that was typed and keeps it apart under this name.
    raw = _RAW_PROMPT.search(settings)
    if raw and raw.group(1).strip('"'):
        try:
            prompt = json.loads(raw.group(1)) if raw.group(1).startswith('"') else raw.group(1)
        except ValueError:
            prompt = raw.group(1).strip('"')
    return answer(prompt, "A1111 infotext")
