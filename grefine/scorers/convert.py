"""From the files that authors publish, read without running anything that they carry, to component folders."""

import pickle
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grefine.errors import ConfigError, GRefineError, WeightsCorrupt, WeightsMissing, in_words, nearest
from grefine.io.atomic import PARTIAL_PREFIX
from grefine.scorers.component import tokenizer_beside
from grefine.scorers.registry import judge_files

State = dict[str, Any]


def convert_weights(
    kind: str,
    files: Sequence[str | Path],
    out: str | Path,
    *,
    tokenizer: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write the component that files in any order make up into `out`, new or empty; `options` are its geometry."""
    kind = kind.lower().replace("_", "-")
    known = kinds()
    if kind not in known:
        raise ConfigError(f"Cannot convert '{kind}': {', '.join(known)}{nearest(kind, known)}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"'{out}' already holds something; give a new folder.")
    if not files:
        raise WeightsMissing(f"No files were given to convert {kind} from.")
    words = None
    if tokenizer is not None:  # first, because it is quick to refuse and the weights are large
        words = tokenizer_beside(Path(tokenizer))
    states = {Path(file): read_state(file) for file in files}
    try:
        model = known[kind](states, dict(options or {}))
    except GRefineError:
        raise
    except Exception as error:  # whatever tensors of other shapes and names make a network raise
        raise WeightsCorrupt(f"'{files[0]}' holds no weights of {kind} ({in_words(error)[:200]}).") from error
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{PARTIAL_PREFIX}{out.name}")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    if words is not None:
        # Beside the weights, not below: diffusers cannot list a folder of a variant that holds another folder.
        words.save_pretrained(partial)
    partial.replace(out)
    return out


def kinds() -> dict[str, Callable[[Mapping[Path, State], dict[str, Any]], Any]]:
    """Return what can be converted, by name: the judges whose files say how, and the prompts of PQ-Map."""
    files = (file for file in judge_files().values() if file.SPEC.convert)
    return {file.SPEC.convert: file.convert for file in files} | {"pq": _pq}


def _pq(states: Mapping[Path, State], options: dict[str, Any]) -> Any:
    from grefine.models.pq_prompts import FACTORS, PQPrompts

    if len(states) == 1:
        return PQPrompts.from_reference(only(states, "PQ"))
    found: State = {}
    for path, state in states.items():
        factor = next((name for name in FACTORS if name in path.stem.lower()), None)
        if factor is None:
            raise WeightsCorrupt(f"The name of '{path}' tells none of PQ-Map's factors: {', '.join(FACTORS)}.")
        found[factor] = state
    return PQPrompts.from_reference(found)


def read_state(path: str | Path) -> State:
    """Read a safetensors file or, with `weights_only`, a pickle of tensors."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise WeightsMissing(f"There is no weight file '{path}'.")
    no_weights = f"'{path}' is no weight file: neither intact safetensors nor a pickle of tensors."
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        # Training scripts like to store the loss, a float scalar of numpy, whose constructor has had two names.
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
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        raise WeightsCorrupt(no_weights) from error
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
