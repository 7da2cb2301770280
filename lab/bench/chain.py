"""Run a pipeline over cases, in one of the ways that the benchmark compares."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from grefine.pipeline import GRefinePipeline
from grefine.types import RefineResult
from lab.bench.cases import Cases
from lab.world.pictures import tensor_of


def quiet_pipeline(name: str | Path) -> GRefinePipeline:
    """Load a pipeline that draws no bars of its own."""
    pipe = GRefinePipeline.from_pretrained(name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@dataclass(frozen=True)
class Outcome:
    """What came out."""

    images: Tensor
    """(B, 3, 64, 64)."""
    results: list[RefineResult]


@dataclass(frozen=True)
class Runner:
    """A pipeline, how it is seeded, and how many pictures it gets at once."""

    pipe: Any
    seed: int = 0
    batch: int = 16
    say: Callable[[str], None] = lambda line: None

    def __call__(self, name: str, cases: Cases, *, prompts: Sequence[str] | None = None, **options: Any) -> Outcome:
        """Refine the pictures of cases, by their own prompts or others."""
        images, results = self.refine(name, cases.pictures, prompts or cases.prompts, **options)
        return Outcome(tensor_of(images), results)

    def refine(
        self,
        name: str,
        pictures: Sequence[Image.Image],
        prompts: Sequence[str],
        *,
        masks: Tensor | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> tuple[list[Image.Image], list[RefineResult]]:
        """Refine pictures of any sizes; picture i has the same seed in every run, so that only the options differ."""
        self.say(f"{name}: {len(pictures)} pictures")
        images, results = [], []
        for start in range(0, len(pictures), self.batch):
            rows = range(start, min(start + self.batch, len(pictures)))
            out = self.pipe(
                prompt=[prompts[i] for i in rows],
                image=[pictures[i] for i in rows],
                mask_image=None if masks is None else [masks[i].numpy() for i in rows],
                generator=[torch.Generator().manual_seed(self.seed + i) for i in rows],
                config={"batch_size": self.batch} | dict(config or {}),
                force=True,
                **options,
            )
            images += out.images
            results += out.results
        return images, results
