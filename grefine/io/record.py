"""The one text that an output gains: what was done to it, by what, and how it scored; read back when met again."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from grefine.io.embedded import Embedded
from grefine.io.generators.found import load_json
from grefine.io.images import CONTAINERS, pixel_digest

KEY = "grefine"
FORMAT = "grefine-record/1"
LONGEST_PROMPT = 4_000
_KINDS = {"before": dict, "after": dict, "guarded": bool, "forced": bool, "passes": int, "seed": int}
_KINDS |= dict.fromkeys(("area", "moved"), (int, float)) | dict.fromkeys(("size", "missing", "regions"), list)
_LISTS = {"size": int, "missing": str, "regions": dict}
_REGION = {"box": list, "kind": str, "strength": (int, float)}


@dataclass(frozen=True, slots=True)
class RefineRecord:
    """How an image came to be what it is."""

    version: str
    """Of grefine."""
    pipeline: str
    config: str
    """Hash of the settings."""
    seed: int | None
    state: str
    """untouched, refined, kept, or beyond (so bad that it needs a new generation; given back as it was)."""
    reason: str
    kept: str = ""
    """Which candidate: original, repainted, both or restored."""
    guarded: bool = False
    area: float = 0.0
    """Share of the image that was planned to be repainted."""
    moved: float = 0.0
    """Share of its pixels that are not as they were."""
    prompt: str = ""
    prompt_origin: str = ""
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    gate: str = ""
    """The first judge that chose what was looked at, as NAME:VALUE; it steered the run like the guard's judges."""
    forced: bool = False
    """True for a picture of a world that the pipeline does not know."""
    painter: str = ""
    """Who redrew; empty for SDXL."""
    drew: str = ""
    """Who drew the maps in place of ours, the metrics that see as they do, and who steered, with commas: no proof."""
    size: list[int] = field(default_factory=list)
    """Width and height."""
    regions: list[dict[str, Any]] | None = None
    """Box, kind and strength of what was planned to be repainted; None where no maps were drawn."""
    missing: list[str] = field(default_factory=list)
    """Phrases of the prompt that were not met."""
    source: str = ""
    """SHA-256 of the file that was refined."""
    pixels: str = ""
    """Hash of the coded picture that this record was written into; another one means that it was edited since."""
    passes: int = 1
    """How often the image has been refined."""

    def to_text(self) -> str:
        """Return the text that is written into files."""
        values = dataclasses.asdict(self) | {
            "format": FORMAT,
            "prompt": self.prompt[:LONGEST_PROMPT],
            "before": numbers(self.before),
            "after": numbers(self.after),
        }
        for name in ("painter", "drew", "missing"):
            if not values[name]:
                del values[name]
        return json.dumps(values, ensure_ascii=False, sort_keys=True, allow_nan=False)


def attach_record(data: bytes, form: str, record: RefineRecord) -> bytes | None:
    """Write a record of a picture into the bytes of its file; None where its format or end does not allow it."""
    known = dataclasses.replace(record, pixels=pixel_digest(data, form))
    container = CONTAINERS.get(form)
    return container.put_text(data, KEY, known.to_text()) if container else None


def read_record(embedded: Embedded) -> RefineRecord | None:
    """Return the record of an output of ours; None for any other file, or for a text that is not a whole record."""
    data = load_json(embedded.text(KEY))
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return None
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(RefineRecord):
        value = data.get(entry.name)
        if _fits(entry.name, value):
            values[entry.name] = numbers(value) if isinstance(value, dict) else value
        elif entry.name == "seed":
            values["seed"] = None
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            return None
    return RefineRecord(**values)


def _fits(name: str, value: Any) -> bool:
    kind, needed = _KINDS.get(name, str), _REGION if name == "regions" else {}
    return (
        isinstance(value, kind)
        and not (kind is int and isinstance(value, bool))
        and all(isinstance(one, _LISTS[name]) for one in (value if kind is list else ()))
        and all(isinstance(one.get(part), known) for part, known in needed.items() for one in value)
    )


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Keep finite numbers; JSON knows no others."""
    return {
        str(name): round(float(value), 6)
        for name, value in values.items()
        if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    }
