"""The device of a pipeline, told by the first weight of each of its parts."""

from collections.abc import Mapping
from typing import Any

import torch

HOOKS = {"_hf_hook", "_diffusers_hook"}
"""What offloading, accelerate's or diffusers', leaves on a part, or on all of its modules with weights."""


class OneDevice:
    """Says where a pipeline runs. diffusers asks every module of every part, which takes as long as a small step."""

    @property
    def _execution_device(self) -> torch.device:
        return common_device(self.components) or super()._execution_device  # type: ignore


def common_device(components: Mapping[str, Any]) -> torch.device | None:
    """Return the one device of all components; None where they differ or hooks move them, which diffusers resolves."""
    devices = set()
    for part in components.values():
        if not isinstance(part, torch.nn.Module):
            continue
        path, weight = next(part.named_parameters(), ("", None))
        modules = [part]
        for name in path.split(".")[:-1]:
            modules.append(getattr(modules[-1], name))
        if any(HOOKS & vars(module).keys() for module in modules):
            return None
        devices |= set() if weight is None else {weight.device}
    return devices.pop() if len(devices) == 1 else None
