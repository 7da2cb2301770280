"""Published weight files, read without running anything that they carry."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from grefine.errors import WeightsCorrupt, WeightsMissing


def read_state(path: str | Path) -> dict[str, Any]:
    """Read a safetensors file or a pickle of tensors.

    Pickles are loaded with `weights_only`; beside tensors only numpy's float scalars are allowed, which training
    scripts like to store as the loss, under both names that numpy has given their constructor.

    Raises:
        WeightsMissing: no such file.
        WeightsCorrupt: an unreadable file, or a pickle that wants to run something; its name is given.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise WeightsMissing(f"There is no weight file '{path}'.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        with torch.serialization.safe_globals(_harmless()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), "a foreign object")
        raise WeightsCorrupt(
            f"'{path}' is refused: it is a pickle that wants more than tensors ({wanted[:160]}). "
            "Save its state dict as safetensors on a machine where you trust it."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsCorrupt(f"'{path}' is no weight file: neither safetensors nor a pickle of tensors.") from error
    except Exception as error:
        if "Safetensor" in type(error).__name__:
            raise WeightsCorrupt(f"'{path}' is no intact safetensors file: {error}") from error
        raise
    if not isinstance(state, dict):
        raise WeightsCorrupt(f"'{path}' holds a {type(state).__name__}, not a dictionary of tensors.")
    return state


def _harmless() -> list[Any]:
    import numpy as np

    constructor = np._core.multiarray.scalar
    return [
        np.dtype,
        np.dtypes.Float64DType,
        np.dtypes.Float32DType,
        constructor,
        (constructor, "numpy.core.multiarray.scalar"),
    ]
