"""The infotext of Automatic1111, Forge and SD.Next: prompt, `Negative prompt:`, and a line of settings."""

import json
import re

from grefine.io.generators.found import FoundPrompt, answer

ORIGIN = "A1111 infotext"
_SETTINGS = re.compile(r"^Steps: \d+(,|$)", re.MULTILINE)
_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_NEGATIVE = re.compile(r"^Negative prompt:", re.MULTILINE)
_RAW_PROMPT = re.compile(r'(?:^|, )Raw prompt: ("(?:\\.|[^\\"])*"|[^,]*)')
_LONGEST_LINE = 4_000
"""Of a line that may be settings: looking for pairs in it takes the square of its length."""


def read_infotext(text: str, strict: bool = False) -> FoundPrompt | None:
    """Return the prompt of an infotext."""
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
    return answer(prompt, ORIGIN)
