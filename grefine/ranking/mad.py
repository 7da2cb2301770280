"""MAD selection: the few images on which two methods differ most, and that differ from one another."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from grefine.errors import ConfigError

LAMBDA = 0.1


@dataclass(frozen=True, slots=True)
class Pick:
    """One image chosen for one pair of methods."""

    index: int
    """Position in the list of images."""
    d1: float
    """How much the two methods' outputs differ."""
    d2: float
    """Mean distance to the images already chosen; 0 for the first."""


def greedy_mad(d1: np.ndarray, distances: Callable[[int], np.ndarray], k: int, lambda_: float = LAMBDA) -> list[Pick]:
    """Choose k images: next = argmax D1(x) + lambda D2(x, S), D2 the mean distance to the chosen set S (Eq. 1).

    `d1` is the `(n,)` distance of the two methods' outputs; `distances` gives those of one image to all and is called
    once per pick, so that k picks cost k * n of them. Ties go to the larger D1, then to the image listed first.
    """
    d1 = np.asarray(d1, dtype=np.float64)
    if not np.isfinite(d1).all():
        raise ConfigError("Some distances between two methods' outputs are not finite; the images cannot be compared.")
    order = np.argsort(-d1, kind="stable")
    running = np.zeros(len(d1))
    free = np.ones(len(d1), dtype=bool)
    picks: list[Pick] = []
    for _ in range(min(k, len(d1))):
        d2 = running / max(len(picks), 1)
        gain = np.where(free, d1 + lambda_ * d2, -np.inf)
        best = int(order[np.argmax(gain[order])])
        picks.append(Pick(best, float(d1[best]), float(d2[best])))
        free[best] = False
        if lambda_:
            running += distances(best)
    return picks


class FeatureDistances:
    """Distances between rows of a feature matrix; each asked row is computed once and kept for all method pairs."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = features
        self._rows: dict[int, np.ndarray] = {}

    def __call__(self, index: int) -> np.ndarray:
        """Return the `(n,)` mean squared differences of image `index` to all images."""
        if index not in self._rows:
            row = np.asarray(self.features[index], dtype=np.float32)
            found = np.empty(len(self.features))
            for start in range(0, len(found), 1024):
                part = np.asarray(self.features[start : start + 1024], dtype=np.float32) - row
                found[start : start + 1024] = np.einsum("ij,ij->i", part, part) / part.shape[1]
            self._rows[index] = found
        return self._rows[index]


def random_picks(n: int, k: int, generator: np.random.Generator, taken: set[int]) -> list[int]:
    """Return k random image positions outside `taken`, fewer where there are not enough."""
    free = np.array([i for i in range(n) if i not in taken], dtype=np.int64)
    return [int(i) for i in generator.permutation(free)[:k]]
