"""Reading state dicts as published code writes them into modules of ours."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from grefine.errors import WeightsCorrupt


def rename(
    state: Mapping[str, Any], rules: Sequence[tuple[str, str]], unused: re.Pattern[str] | None = None
) -> dict[str, torch.Tensor]:
    """Return the state under our names: the first rule that matches a key decides; unused entries are left out."""
    compiled = [(re.compile(pattern), new) for pattern, new in rules]
    renamed: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if unused is not None and unused.search(key):
            continue
        for pattern, new in compiled:
            if pattern.search(key):
                key = pattern.sub(new, key)
                break
        renamed[key] = torch.as_tensor(value)
    return renamed


def load_reference(
    modules: Mapping[str, nn.Module], groups: Mapping[str, Mapping[str, torch.Tensor]], name: str
) -> None:
    """Load every group into its module, completely."""
    if set(groups) != set(modules):
        raise WeightsCorrupt(f"{name} has the groups {', '.join(modules)}; given: {', '.join(groups) or 'none'}.")
    for group, module in modules.items():
        load_group(module, groups[group], f"{name} group '{group}'")


def load_group(module: nn.Module, state: Mapping[str, torch.Tensor], what: str) -> None:
    """Load one state dict strictly, naming the first entry that does not fit."""
    own = module.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # absent from old files, never read here
    lacking, unknown = set(own) - set(state) - counters, set(state) - set(own)
    for side, keys in (("the given weights lack", lacking), ("the model does not know", unknown)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise WeightsCorrupt(f"{what}: {side} '{min(keys)}'{more}; were they made for another geometry?")
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise WeightsCorrupt(
                f"{what}: '{key}' has shape {tuple(value.shape)}, the model expects {tuple(own[key].shape)}; "
                "were the weights made for another geometry?"
            )
    module.load_state_dict(dict(state), strict=False)
