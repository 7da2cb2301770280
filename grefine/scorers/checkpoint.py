"""Published weight files, read without running anything that they carry."""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing

State = dict[str, Any]


def read_state(path: str | Path) -> State:
    """Read a safetensors file or a pickle of tensors.

    Pickles are loaded with `weights_only`; beside tensors only numpy's float scalars are allowed, which training
    scripts like to store as the loss, under both names that numpy has given their constructor.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise WeightsMissing(f"There is no weight file '{path}'.")
    no_weights = f"'{path}' is no weight file: neither safetensors nor a pickle of tensors."
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        scalar = np._core.multiarray.scalar
        both_names: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar")]
        harmless = [np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType, *both_names]
        with torch.serialization.safe_globals(harmless):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), "")
        if not wanted:
            raise WeightsCorrupt(no_weights) from error
        raise WeightsCorrupt(
            f"'{path}' is refused: it is a pickle that wants more than tensors ({wanted[:160]}). "
            "Save its state dict as safetensors on a machine where you trust it."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsCorrupt(no_weights) from error
    except Exception as error:
        if "Safetensor" in type(error).__name__:
            raise WeightsCorrupt(f"'{path}' is no intact safetensors file: {error}") from error
        raise
    if not isinstance(state, dict):
        raise WeightsCorrupt(f"'{path}' holds a {type(state).__name__}, not a dictionary of tensors.")
    return state


def inside(state: State, key: str) -> State:
    """Return the dictionary under `key`, or the state itself where there is none."""
    return state[key] if isinstance(state.get(key), dict) else state


def bare(state: State) -> State:
    """Take a state dict out of what a training script wrapped it in."""
    for key in ("state_dict", "model_state_dict", "model"):
        state = inside(state, key)
    return {key.removeprefix("module."): value for key, value in state.items()}


def only(states: Mapping[Path, State], name: str) -> State:
    """Return the state of a network that is published as one file."""
    if len(states) != 1:
        raise ConfigError(f"{name} is published as one file; {len(states)} were given.")
    return next(iter(states.values()))


def first_entry(state: Iterable[str]) -> str:
    """Return the first name in a state, for messages."""
    return min(map(str, state), default="nothing")
