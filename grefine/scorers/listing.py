"""The metrics as rows that a person can read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grefine.scorers.registry import metric_specs
from grefine.scorers.resolve import availability, carried, known_pipeline, next_step


def list_metrics(only: str | None = None, pipeline: str | Path | None = None) -> list[dict[str, Any]]:
    """Return every metric in order, or the paper's thirteen: what is known of it, and whether it can run here.

    `next` says in a word or two what would make it run; `reason` says it whole, or warns.
    """
    folder = None if pipeline is None else known_pipeline(pipeline)
    rows = []
    for spec in metric_specs(only):
        given = carried(folder, spec) if folder is not None else None
        runs, reason = availability(spec.name, given)
        facts = ("name", "direction", "needs_prompt", "axis", "licence", "weights", "description")
        row: dict[str, Any] = {fact: getattr(spec, fact) for fact in facts}
        low, high = spec.range
        row |= {"range": f"{low:g}..{high:g}", "values": list(spec.values)}
        rows.append(row | {"runs": runs, "reason": reason, "next": next_step(spec.name, given)})
    return rows


def absent(unavailable: Mapping[str, str], each: bool) -> list[str]:
    """Say which metrics did not run: each with its reason, or all in one line."""
    if each or len(unavailable) < 2:
        return [f"{name} did not run: {why}" for name, why in unavailable.items()]
    return [f"{len(unavailable)} metrics did not run here, which -v lists with what they need."]
