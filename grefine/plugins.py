"""What other packages bring: judges, maps and painters, by the entry points that they state."""

import sys
import warnings
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

MAP_GROUPS = {"quality": "grefine.quality_maps", "alignment": "grefine.alignment_maps"}
"""The entry point groups under which other packages bring maps."""


def plugged_in(group: str, what: str) -> dict[str, Any]:
    """Return what other packages bring to a group, by the names in their SPECs; `what` is how a warning calls it.

    What cannot be imported is left out with a warning.
    """
    return _plugged_in(group, what, tuple(sys.path))


@cache
def _plugged_in(group: str, what: str, path: tuple[str, ...]) -> dict[str, Any]:
    """Return them; `path` is where they are looked for, so that a changed one is noticed."""
    found: dict[str, Any] = {}
    for entry in entry_points(group=group):
        try:
            found |= {file.SPEC.name: file for file in opened(entry)}
        except Exception as error:  # noqa: BLE001 - whatever another package does, ours go on
            warnings.warn(f"The {what} '{entry.value}' of another package was left out: {error}", stacklevel=5)
    return found


def opened(entry: EntryPoint) -> tuple[Any, ...]:
    """Return what an entry point names: one file, or several."""
    found = entry.load()
    return found if isinstance(found, tuple) else (found,)
