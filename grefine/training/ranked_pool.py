"""What a rectifier learns from: a pool of outputs of ranked methods, and sets of rated pictures, seen by the judge."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grefine.errors import ConfigError
from grefine.io.images import read_image
from grefine.ranking.frozen import FrozenJudge
from grefine.ranking.methods import match_methods
from grefine.training.datasets.rated import MOS, RatedImages


@dataclass(frozen=True, slots=True)
class Seen:
    """Pictures as the frozen judge sees them."""

    q: Tensor
    """`(N,)`."""
    features: Tensor
    """`(N, tokens, width)`, float16: they are read once and many."""


@dataclass(frozen=True, slots=True)
class RankedPool:
    """Outputs of every method for the same inputs; row = method * inputs + input."""

    methods: tuple[str, ...]
    names: tuple[str, ...]
    mu: Tensor
    """`(methods,)`, the ranking's scores."""
    seen: Seen

    def rows(self, inputs: Tensor) -> Tensor:
        """Return the rows `(methods, B)` of the given inputs."""
        return torch.arange(len(self.methods))[:, None] * len(self.names) + inputs[None]


@dataclass(frozen=True, slots=True)
class RatedSeen:
    """A set of rated pictures as the frozen judge sees them; opinions are of one scale, high = good."""

    name: str
    opinions: Tensor
    seen: Seen


def read_ranking(path: str | Path) -> dict[str, float]:
    """Read a ranking: the JSON of `grefine rank fit --json`, or one object of scores by method."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read the ranking '{path}': {error}.") from error
    scores = found.get("scores", found) if isinstance(found, dict) else None
    if not isinstance(scores, dict) or len(scores) < 2:
        raise ConfigError(f"'{path}' must hold scores by method, as `grefine rank fit --json` writes them.")
    for method, mu in scores.items():
        if isinstance(mu, bool) or not isinstance(mu, (int, float)) or not math.isfinite(mu):
            raise ConfigError(f"'{path}': the score of '{method}' is {mu!r}, not a number.")
    return {method: float(mu) for method, mu in scores.items()}


def look(
    judge: FrozenJudge,
    paths: Sequence[Path],
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Seen:
    """Let the judge see every picture once; with `cache` the features stay on disk instead of in memory."""
    q, features = np.empty(len(paths), np.float32), None
    for i, path in enumerate(paths):
        score, tokens = judge.read([read_image(path).rgb])
        if features is None:
            shape = (len(paths), *tokens.shape[1:])
            features = np.empty(shape, np.float16) if cache is None else _on_disk(cache, shape)
        if tokens.shape[1:] != features.shape[1:]:
            raise ConfigError(
                f"'{path}' gives features {tuple(tokens.shape[1:])}, others {features.shape[1:]}; use pictures of one "
                "size, or a layer whose output does not depend on it."
            )
        q[i], features[i] = score.item(), tokens[0].float().cpu().numpy()
        if (i + 1) % 500 == 0:
            progress(f"seen {i + 1} of {len(paths)}")
    if features is None:
        raise ConfigError("There are no pictures to look at.")
    return Seen(torch.from_numpy(q), torch.from_numpy(features))


def read_pool(
    judge: FrozenJudge,
    folders: Sequence[str | Path],
    ranking: dict[str, float],
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> RankedPool:
    """Read the outputs of ranked methods."""
    found = match_methods(folders)
    for method in found.methods:
        if method not in ranking:
            raise ConfigError(f"The ranking has no score for the method '{method}'; it has {', '.join(ranking)}.")
    absent = [m for m in ranking if m not in found.methods]
    if absent:
        raise ConfigError(f"The ranked method '{absent[0]}' has no folder of outputs; give one for each.")
    paths = [path for method in found.methods for path in found.paths[method]]
    mu = torch.tensor([ranking[m] for m in found.methods])
    file = cache / "pool.f16" if cache is not None else None
    return RankedPool(found.methods, found.names, mu, look(judge, paths, file, progress))


def see_rated(
    judge: FrozenJudge,
    data: RatedImages,
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> RatedSeen:
    """Let the judge see a set of rated pictures."""
    file = cache / f"rated-{data.name}.f16" if cache is not None else None
    opinions = torch.tensor([row.scores[MOS] for row in data.rows])
    return RatedSeen(data.name, opinions, look(judge, [row.path for row in data.rows], file, progress))


def _on_disk(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.memmap(path, np.float16, "w+", shape=shape)
