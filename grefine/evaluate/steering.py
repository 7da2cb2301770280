"""Which metrics steered a refinement, read from the outputs themselves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from grefine.errors import ImageError
from grefine.io.images import read_image
from grefine.io.record import read_record
from grefine.scorers.registry import find_metric

_LOOKED_AT = 64


def steered_by(outputs: Iterable[Path]) -> set[str]:
    """Return the metrics that the records in the outputs name: they guarded, guided or gated, so they prove nothing.

    The first 64 files are read; a run has one configuration.
    """
    names: set[str] = set()
    for number, path in enumerate(outputs):
        if number >= _LOOKED_AT:
            break
        try:
            record = read_record(read_image(path).embedded)
        except ImageError:
            continue
        if record is not None:
            names |= {name.split(".")[0] for name in (*record.before, *record.after, record.gate.partition(":")[0])}
    return {known for name in names if (known := find_metric(name))}
