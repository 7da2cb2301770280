"""From the files that authors publish to component folders: safetensors and a config, nothing executable."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, GRefineError, WeightsCorrupt, WeightsMissing, nearest
from grefine.io.atomic import PARTIAL_PREFIX
from grefine.scorers.checkpoint import read_state

State = dict[str, Any]


def convert_weights(
    kind: str,
    files: Sequence[str | Path],
    out: str | Path,
    *,
    tokenizer: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write the component that published files make up, and return its folder.

    Args:
        kind: moe-agiqa, mdiqa, lar-iqa, reward or pq.
        files: in any order; what each is, its content tells (for MDIQA's heads and PQ's factors, its name).
        out: folder to write; it must be new or empty.
        tokenizer: folder of the tokenizer that a prompt-aware network was trained with; copied into `out`.
        options: geometry, where it is not the published one.

    Raises:
        ConfigError: an unknown kind, or an `out` that holds something.
        WeightsMissing: a file that is not there, or a part that none of the files holds.
        WeightsCorrupt: a file that cannot be used.
    """
    kind = kind.lower().replace("_", "-")
    if kind not in _KINDS:
        raise ConfigError(f"Cannot convert '{kind}': {', '.join(_KINDS)}{nearest(kind, _KINDS)}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"'{out}' already holds something; give a new folder.")
    if not files:
        raise WeightsMissing(f"No files were given to convert {kind} from.")
    words = None
    if tokenizer is not None:  # first, because it is quick to refuse and the weights are large
        from grefine.scorers.builders import tokenizer_beside

        words = tokenizer_beside(Path(tokenizer))
    states = {Path(file): read_state(file) for file in files}
    try:
        model = _KINDS[kind](states, dict(options or {}))
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


def _mdiqa(states: Mapping[Path, State], options: dict[str, Any]) -> Any:
    from grefine.models.mdiqa import AESTHETIC, MDIQA, TECHNICAL

    groups: dict[str, State] = {}
    parts: State = {}
    for path, state in states.items():
        state = _inside(state, "params")
        heads = {int(m[1]) for key in state if (m := re.match(r"cfanet_heads\.(\d+)\.", key))}
        if any(key.startswith("local_score_module.") for key in state):
            groups["fusion"] = state
        elif heads == set(range(len(AESTHETIC))):
            groups["aesthetic"] = state
        elif heads == set(range(len(TECHNICAL))):
            groups["technology"] = state
        elif "h_emb" in state:
            parts |= _prefixed(state, f"cfanet_heads.{_head_number(path)}.")
        elif any(key.startswith("weight_pool.") for key in state):
            parts |= _prefixed(state, "cfanet_backbone.")
        else:
            raise WeightsCorrupt(f"'{path}' holds no part of MDIQA: its first entry is '{_first(state)}'.")
    if parts:
        groups.setdefault("technology", parts)
    for name in ("technology", "aesthetic"):
        if name not in groups:
            raise WeightsMissing(
                f"No file holds MDIQA's '{name}' net: give net_freeze_backbone.pth and its five heads, and the "
                "aesthetic net_best_PARA_val_color.pth; the fusion file is needed for the overall score alone."
            )
    return MDIQA.from_reference(groups, **options)


def _head_number(path: Path) -> int:
    match = re.search(r"head(\d+)$", path.stem)
    if match is None:
        raise WeightsCorrupt(f"'{path}' is one of MDIQA's heads, but its name does not end in head0 ... head4.")
    return int(match[1])


def _moe_agiqa(states: Mapping[Path, State], options: dict[str, Any]) -> Any:
    from grefine.models.moe_agiqa import MoEAGIQA

    groups: dict[str, State] = {}
    for path, state in states.items():
        if "reward_model_state_dict" in state and "regressor_model_state_dict" in state:
            groups |= {"reward": state["reward_model_state_dict"], "regressor": state["regressor_model_state_dict"]}
        elif "vit_model_state_dict" in state:
            groups["vit_prior"] = state["vit_model_state_dict"]
        elif "cls_token" in state:
            groups["vit"] = state
        else:
            raise WeightsCorrupt(f"'{path}' holds no part of MoE-AGIQA: its first entry is '{_first(state)}'.")
    if "regressor" not in groups:
        raise WeightsMissing("No file holds MoE-AGIQA's training result (best.pth) with reward and regressor.")
    if "vit" not in groups:
        raise WeightsMissing(
            "MoE-AGIQA's files do not hold its ViT: also give the weights of timm's "
            "vit_base_patch16_224.augreg_in21k_ft_in1k; any other ViT-B/16 gives wrong scores without an error."
        )
    if "proj_prior" in groups["regressor"] and "vit_prior" not in groups:
        raise WeightsMissing("This is version 2 of MoE-AGIQA: also give the pre-training file that holds its prior.")
    if "proj_prior" not in groups["regressor"]:
        groups.pop("vit_prior", None)
    return MoEAGIQA.from_reference(groups, **options)


def _lar_iqa(states: Mapping[Path, State], options: dict[str, Any]) -> Any:
    from grefine.models.lar_iqa import LARIQA

    return LARIQA.from_reference({"model": _bare(_only(states, "LAR-IQA"))}, **options)


def _reward(states: Mapping[Path, State], options: dict[str, Any]) -> Any:
    from grefine.models.reward import RewardModel

    return RewardModel.from_reference({"reward": _bare(_only(states, "ImageReward"))}, **options)


def _pq(states: Mapping[Path, State], options: dict[str, Any]) -> Any:
    from grefine.models.pq_prompts import FACTORS, PQPrompts

    if len(states) == 1:
        return PQPrompts.from_reference(_only(states, "PQ"))
    found: State = {}
    for path, state in states.items():
        factor = next((name for name in FACTORS if name in path.stem.lower()), None)
        if factor is None:
            raise WeightsCorrupt(f"The name of '{path}' tells none of PQ-Map's factors: {', '.join(FACTORS)}.")
        found[factor] = state
    return PQPrompts.from_reference(found)


_KINDS: dict[str, Callable[[Mapping[Path, State], dict[str, Any]], Any]] = {
    "moe-agiqa": _moe_agiqa,
    "mdiqa": _mdiqa,
    "lar-iqa": _lar_iqa,
    "reward": _reward,
    "pq": _pq,
}
KINDS = tuple(_KINDS)


def _inside(state: State, key: str) -> State:
    return state[key] if isinstance(state.get(key), dict) else state


def _bare(state: State) -> State:
    """Take a state dict out of what a training script wrapped it in."""
    for key in ("state_dict", "model_state_dict", "model"):
        state = _inside(state, key)
    return {key.removeprefix("module."): value for key, value in state.items()}


def _prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def _only(states: Mapping[Path, State], name: str) -> State:
    if len(states) != 1:
        raise ConfigError(f"{name} is published as one file; {len(states)} were given.")
    return next(iter(states.values()))


def _first(state: Iterable[str]) -> str:
    return min(map(str, state), default="nothing")
