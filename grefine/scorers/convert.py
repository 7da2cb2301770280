"""From the files that authors publish to component folders: safetensors and a config, nothing executable."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, GRefineError, WeightsCorrupt, WeightsMissing, nearest
from grefine.io.atomic import PARTIAL_PREFIX
from grefine.scorers.checkpoint import State, only, read_state
from grefine.scorers.component import tokenizer_beside
from grefine.scorers.registry import judge_files


def convert_weights(
    kind: str,
    files: Sequence[str | Path],
    out: str | Path,
    *,
    tokenizer: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write the component that published files make up into `out`, which must be new or empty, and return that folder.

    The files may come in any order: what each is, its content tells (for MDIQA's heads and PQ's factors, its name).
    `tokenizer` is the folder of the one that a prompt-aware network was trained with; it is copied into `out`.
    `options` are the geometry, where it is not the published one.
    """
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
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".")
        raise WeightsCorrupt(f"'{files[0]}' holds no weights of {kind} ({said}).") from error
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
