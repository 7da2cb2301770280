"""The statistics of photographs that NIQE and brisque_severity are held against; `python -m lab train natural-scenes`.

The file's own metadata names the photographs and the terms; no photograph can be got back from it.
"""

from functools import cache
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("natural_scenes.safetensors")


@cache
def shipped() -> dict[str, np.ndarray]:
    """Return the statistics by name, as float64."""
    from safetensors.numpy import load_file

    return {name: values.astype(np.float64) for name, values in load_file(FILE).items()}
