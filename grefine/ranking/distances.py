"""Which D1 and D2 a selection uses: deep ones where their weights lie on this machine, our own otherwise."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grefine.errors import ConfigError, WeightsMissing
from grefine.ranking import features
from grefine.ranking.mad import FeatureDistances
from grefine.ranking.methods import MethodImages

if TYPE_CHECKING:
    from grefine.ranking.deep import DeepDistances

Progress = Callable[[str], None]


class OfflineDistances:
    """Descriptors without weights; D2 is scaled so that two random inputs are 1 apart."""

    appearance_name, semantics_name = features.APPEARANCE, features.LAYOUT

    def __init__(self, cache: Path | None = None, progress: Progress = lambda _: None) -> None:
        self.cache, self.progress = cache, progress
        self._appearance: dict[str, np.ndarray] = {}

    def appearance(self, found: MethodImages, a: str, b: str) -> np.ndarray:
        """Return D1 `(n,)`, how much two methods' outputs differ: mean absolute difference of descriptors."""
        for method in (a, b):
            if method not in self._appearance:
                self.progress(f"describing {method}")
                file = f"{method}-{self.appearance_name}"
                paths = found.paths[method]
                self._appearance[method] = features.described(paths, features.appearance, file, self.cache)
        return features.appearance_distance(self._appearance[a], self._appearance[b])

    def semantics(self, inputs: Sequence[Path] | None, found: MethodImages) -> Callable[[int], np.ndarray]:
        """Return what gives D2 of one input to all, `(n,)`; without inputs the methods' outputs stand in."""
        named = {"inputs": inputs} if inputs is not None else {m: found.paths[m] for m in found.methods}
        each = [
            features.described(paths, features.layout, f"{name}-{self.semantics_name}", self.cache)
            for name, paths in named.items()
        ]
        return FeatureDistances(features.standardised(np.mean([e.astype(np.float32) for e in each], axis=0)))


def choose_distances(
    name: str, cache: Path | None = None, progress: Progress = lambda _: None
) -> "OfflineDistances | DeepDistances":
    """Return the distances called `name`: "offline", "deep" (DISTS and VGG16-BN), or "auto" (deep where present)."""
    if name not in ("auto", "offline", "deep"):
        raise ConfigError(f"No distance '{name}': choose auto, offline or deep.")
    if name == "offline":
        return OfflineDistances(cache, progress)
    from grefine.ranking.deep import DeepDistances, missing_weights

    missing = missing_weights()
    if not missing:
        return DeepDistances(cache, progress)
    if name == "deep":
        raise WeightsMissing(
            f"Deep distances need {', '.join(missing)}, which are not on this machine; put them into the torch hub "
            "checkpoints folder or pass --distance offline."
        )
    progress("weights of DISTS or VGG are absent: comparing by our own offline distances")
    return OfflineDistances(cache, progress)
