"""What another package would bring: two painters, one of them not free."""

from __future__ import annotations

from types import SimpleNamespace

from grefine.types import PainterSpec


def load(device):
    return lambda images: images


_free = SimpleNamespace(SPEC=PainterSpec("example", side=64), load=load)
_bound = SimpleNamespace(SPEC=PainterSpec("bound", licence="research only", noncommercial=True), load=load)
__all__ = ["painters"]
painters = (_free, _bound)
