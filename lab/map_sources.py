"""`python -m lab train pq|aq`: endless toy scenes with their truth, as opinions that both maps can be fitted to."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grefine.models.clip_surgery import ClipSurgery
from grefine.training.maps.opinions import Opinions
from grefine.training.maps.train import train_map
from lab import CONFIGS
from lab.judges.prompts import captions_for
from lab.judges.stream import Judged, judged
from lab.tiny.clip import FACTOR_OF
from lab.world.vocabulary import DEFECT_KINDS

# The maps see other scenes than the parts of the pipeline, the judges and the benchmark do.
MAPS_TRAIN, MAPS_HELD_OUT = 8_000_009, 9_000_011
HELD_OUT_SCENES = 192


class _Toy:
    size: int | None = None
    identity = "toy world"

    def __init__(self, clip: ClipSurgery, seed: int) -> None:
        self.clip, self.seed = clip, seed

    def _pixels(self, images: Tensor) -> Callable[[Sequence[int]], Tensor]:
        """Return pictures of 8 bits, as a file would hold them."""
        exact, clip = (images.clamp(0, 1) * 255).round() / 255, self.clip
        return lambda rows: clip.preprocess(exact[list(rows)].to(clip.device)).to(clip.dtype)


class ToyQuality(_Toy):
    """Toy scenes, half of them spoilt in one place; the opinion is their true quality."""

    def draw(self, number: int, count: int) -> Opinions:
        return self._rated(judged(MAPS_TRAIN + self.seed, number, count, distorted_share=0.0))

    def held_out(self) -> Opinions:
        return self._rated(judged(MAPS_HELD_OUT, 0, HELD_OUT_SCENES, distorted_share=0.0))

    def _rated(self, data: Judged) -> Opinions:
        count = len(data.images)
        bad = data.severity > 0
        factors = torch.ones(count, 3)
        for row in bad.nonzero()[:, 0].tolist():
            factors[row, FACTOR_OF[DEFECT_KINDS[int(data.damaged.kinds[row])]] - 1] = data.quality[row]
        seen, damage = self._pixels(data.images), data.damaged.masks & bad[:, None, None]
        return Opinions((), seen, count, torch.arange(count), data.quality.float(), factors, damage=damage)


class ToyAlignment(_Toy):
    """Toy scenes with three captions each: their own, one with a wrong word, and another scene's."""

    def draw(self, number: int, count: int) -> Opinions:
        return self._rated(MAPS_TRAIN + self.seed, number, max(2, count // 3))

    def held_out(self) -> Opinions:
        return self._rated(MAPS_HELD_OUT, 1, HELD_OUT_SCENES // 2)

    def _rated(self, seed: int, number: int, scenes: int) -> Opinions:
        data = judged(seed, number, scenes, damaged_share=0.25, distorted_share=0.0)
        told = captions_for(data.scenes, random.Random(f"{seed}-{number}"))
        rows = [caption for captions in told for caption in captions]
        which = torch.arange(scenes).repeat_interleave(3)
        truths, factors = torch.tensor([row.alignment for row in rows]), torch.full((len(rows), 3), float("nan"))
        return Opinions((), self._pixels(data.images), scenes, which, truths, factors, tuple(row.text for row in rows))


def fit_map(name: str, out: Path, pipeline: str, **budget: Any) -> dict[str, Any]:
    """Fit the map "pq" or "aq" of a pipeline to toy scenes; return what it is worth before and after."""
    source = {"pq": ToyQuality, "aq": ToyAlignment}[name]

    def drawn(clip: ClipSurgery, settings: Any) -> _Toy:
        return source(clip, settings.seed)

    return train_map(name, out, pipeline, config=CONFIGS / f"{name}.yaml", source=drawn, **budget)
