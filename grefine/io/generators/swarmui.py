"""SwarmUI: JSON with `sui_image_params`, where others write an infotext."""

import re
from typing import Any

from grefine.io.generators.found import FoundPrompt, answer

ORIGIN = "SwarmUI parameters"
_SECTION = re.compile(r"<(?:segment|object|clear|refiner|video|videoswap|extend)\b[^<>]*>")
_SWITCH = re.compile(r"</?(?:base|break)>")


def read_swarmui(data: dict[str, Any]) -> FoundPrompt | None:
    """Return the prompt of SwarmUI's JSON; what follows `<segment:...>` and the like describes later passes."""
    params = data.get("sui_image_params")
    if not isinstance(params, dict) or not isinstance(params.get("prompt"), str):
        return None
    prompt = _SWITCH.sub(", ", _SECTION.split(params["prompt"], maxsplit=1)[0])
    return answer(prompt.strip(" ,"), ORIGIN)
