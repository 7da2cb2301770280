"""The device of a call, looked up once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


class OneDevice:
    """Remembers where a pipeline runs while a call is under way.

    Every look-up asks every module of every component for its hooks: on a small UNet that takes as long as a step.
    """

    _running_on: torch.device | None = None

    @property
    def _execution_device(self) -> torch.device:
        return self._running_on or super()._execution_device  # type: ignore[misc]


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
