"""The device of a call, looked up once."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import torch

HOOKS = {"_hf_hook", "_diffusers_hook"}
"""What offloading, accelerate's or diffusers', leaves on a module."""
P = ParamSpec("P")
R = TypeVar("R")


class OneDevice:
    """Remembers where a pipeline runs while a call is under way.

    diffusers asks every module of every component for its hooks, several times over: on a small UNet that takes as
    long as a step.
    """

    _running_on: torch.device | None = None

    @property
    def _execution_device(self) -> torch.device:
        return self._running_on or common_device(self.components) or super()._execution_device  # type: ignore


def common_device(components: Mapping[str, Any]) -> torch.device | None:
    """Return the one device of all components; None where they differ or hooks move them, which diffusers resolves."""
    devices = set()
    for part in components.values():
        if not isinstance(part, torch.nn.Module):
            continue
        open_modules = [part]
        while open_modules:
            module = open_modules.pop()
            if HOOKS & module.__dict__.keys():
                return None
            devices.update(weight.device for weight in module._parameters.values() if weight is not None)
            open_modules += [child for child in module._modules.values() if child is not None]
        if len(devices) > 1:
            return None
    return devices.pop() if devices else None


def on_one_device(call: Callable[P, R]) -> Callable[P, R]:
    """Make a method of such a pipeline look its device up once."""

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        pipe: Any = args[0]
        pipe._running_on = None
        pipe._running_on = pipe._execution_device
        try:
            return call(*args, **kwargs)
        finally:
            pipe._running_on = None

    return run
