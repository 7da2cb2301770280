"""Write the file of the embedded parser; `grefine.text.embedded.read_weights` reads it."""

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from grefine.io.atomic import write_atomic
from grefine.text.embedded import ParserWeights, features_signature


def write_weights(path: Path, weights: ParserWeights) -> int:
    """Write the file and return its size in bytes; equal weights give equal bytes."""
    told: dict[str, Any] = asdict(weights) | {"features": features_signature()}
    told["shapes"] = {name: table.shape for name, table in told.pop("tables").items()}
    arrays = {"told": np.frombuffer(json.dumps(told).encode(), np.uint8)}
    for name, table in weights.tables.items():
        arrays |= {f"{name} places": np.packbits(table != 0), f"{name} values": table[table != 0]}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
    return len(buffer.getvalue())
