"""Pictures with opinion scores, whatever they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Opinions:
    """A batch of pictures and of opinions about them (or about a picture and a prompt)."""

    keys: tuple[str, ...]
    """What each picture is remembered by; empty where no picture comes twice."""
    look: Callable[[Sequence[int]], Tensor]
    """Gives the pixels of some of the pictures as CLIP wants them, `(n, 3, S, S)`."""
    count: int
    """Pictures."""
    image_of: Tensor
    """`(P,)` long, the picture that each opinion is about."""
    opinions: Tensor
    """`(P,)` in 0..1, high = good."""
    factors: Tensor
    """`(P, 3)` technical, rational and natural quality in 0..1, NaN where nobody said."""
    prompts: tuple[str, ...] = ()
    """One per opinion, for alignment."""
    damage: Tensor | None = None
    """`(B, H, W)` bool where the picture is truly bad, if that is known."""


class OpinionSource(Protocol):
    """Where batches come from."""

    @property
    def identity(self) -> str:
        """What changes when the data do, so that nobody goes on from other data by mistake."""
        ...

    @property
    def size(self) -> int | None:
        """Opinions to train on; None for an endless source."""
        ...

    def draw(self, number: int, count: int) -> Opinions:
        """Return training batch `number`; the same for a number every time."""
        ...

    def held_out(self) -> Opinions:
        """Return what is never trained on."""
        ...
