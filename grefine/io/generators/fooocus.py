"""Fooocus: JSON with `prompt` (as typed) and `full_prompt` (with styles), where others write an infotext."""

from typing import Any

from grefine.io.generators.found import FoundPrompt, answer

ORIGIN = "Fooocus parameters"
_KNOWN = ("full_prompt", "base_model", "performance", "Base Model", "Performance", "metadata_scheme")


def read_fooocus(data: dict[str, Any], scheme: str | None) -> FoundPrompt | None:
    """Return the prompt of Fooocus's JSON; `scheme` is its own word for what it wrote, where it was kept."""
    if scheme is None and not any(key in data for key in _KNOWN):
        return None
    prompt = data.get("prompt", data.get("Prompt"))
    if not prompt and isinstance(data.get("full_prompt"), list):
        prompt = ", ".join(part for part in data["full_prompt"] if isinstance(part, str))
    return answer(prompt, ORIGIN)
