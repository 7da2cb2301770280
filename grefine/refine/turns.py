"""Calls of one pipeline take turns, whatever threads they come from, and a forked child has turns of its own."""

import functools
import os
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import torch

from grefine.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")
_LOCKS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""By denoiser, so that pipelines which share components take turns, too; a pipeline itself stays free to be copied."""
_INSIDE: WeakSet[Any] = WeakSet()
_FORKED: list[bool] = []
"""Holds an entry in a forked child until its first call."""


def _begin_child() -> None:
    # The threads that hold them do not exist in a child.
    _LOCKS.clear()
    _INSIDE.clear()
    _FORKED.append(True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)


def denoiser_of(pipe: Any) -> Any:
    """Return the network of a pipeline that denoises; None where there is none."""
    denoisers = (getattr(pipe, name, None) for name in ("unet", "transformer"))
    return next((one for one in denoisers if one is not None), None)


def turn_of(pipe: Any) -> Any:
    """Return the lock of a pipeline's denoiser, for a `with`."""
    denoiser = denoiser_of(pipe)
    return _LOCKS.setdefault(pipe if denoiser is None else denoiser, threading.RLock())


def in_turn(call: Callable[P, R]) -> Callable[P, R]:
    """Make a method of a pipeline wait until no other thread is in it."""

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        pipe: Any = args[0]
        if _FORKED:
            # The parent's OpenMP threads do not exist either, and a child that counts on them waits without end.
            torch.set_num_threads(1)
            _FORKED.clear()
        with turn_of(pipe):
            if pipe in _INSIDE:
                raise ConfigError("This pipeline is in the middle of a call: use another there, e.g. by from_pipe.")
            _INSIDE.add(pipe)
            try:
                return call(*args, **kwargs)
            finally:
                _INSIDE.discard(pipe)

    return run
