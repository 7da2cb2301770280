"""How bad a provider from outside finds good pictures: the edge beyond which its map is believed."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from grefine.config import build
from grefine.errors import ConfigError
from grefine.indicators.gates import enough_for, set_gates
from grefine.io.atomic import write_text
from grefine.resources import cache_folder
from grefine.types import MapSpec

SPOT = 0.002
"""Share of the pixels that may lie beyond the edge: a smaller place is not repaired either (`min_region_area`)."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What was measured of one provider."""

    badness: float
    """1 - value that good pictures reach; 1: its map says nothing."""
    version: str = ""
    """Of the provider, as it was measured."""
    images: int = 0
    false_alarms: float = 0.0
    """Share of good pictures that may be beyond it."""
    held_out: float = 0.0
    """The same, counted on pictures that were left out."""


def spot_quality(values: np.ndarray) -> float:
    """Return the quality that all but `SPOT` of the pixels reach: p of a map from outside."""
    flat = np.asarray(values, dtype=np.float32).ravel()
    count = int(SPOT * flat.size)
    return float(np.partition(flat, count)[count])


def measure_edge(spec: MapSpec, qualities: Sequence[float], false_alarms: float) -> Edge:
    """Set the edge from `spot_quality` of good pictures.

    Raises:
        ConfigError: too few pictures to hold the share of false alarms.
    """
    least = enough_for(false_alarms, 1)
    if len(qualities) < least:
        raise ConfigError(
            f"{len(qualities)} pictures are too few to hold false alarms to {false_alarms:.1%}: give at least {least}."
        )
    gates = set_gates({spec.name: np.asarray(qualities)}, false_alarms)
    badness = float(np.clip(1.0 - gates.limits[spec.name], 1e-3, 1.0))
    return Edge(badness, spec.version, len(qualities), false_alarms, round(gates.held_out, 4))


def edge_file(kind: str, spec: MapSpec) -> Path:
    """Return where the edge of a provider is kept."""
    return cache_folder() / "maps" / kind / f"{Path(spec.name).name}.json"


def store_edge(kind: str, spec: MapSpec, edge: Edge) -> Path:
    """Keep what was measured; it holds for this provider wherever it is named."""
    file = edge_file(kind, spec)
    write_text(file, json.dumps(asdict(edge), indent=1) + "\n")
    return file


def stored_edge(kind: str, spec: MapSpec) -> Edge | None:
    """Return what was measured of this version of a provider; None where nothing was."""
    file = edge_file(kind, spec)
    if not file.is_file():
        return None
    try:
        edge = build(Edge, json.loads(file.read_text(encoding="utf-8")), f"'{file}'")
    except ValueError as error:
        raise ConfigError(f"Cannot read '{file}': {error}. Delete it, or run `grefine calibrate` again.") from error
    return edge if edge.version == spec.version else None
