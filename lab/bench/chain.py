"""Run a pipeline over cases, in one of the ways that the benchmark compares."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from grefine.types import RefineResult
from lab.bench.cases import Cases, tensor_of


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

    def __call__(
        self,
        name: str,
        cases: Cases,
        *,
        masks: Tensor | None = None,
        prompts: Sequence[str] | None = None,
        strength: float | None = None,
        config: Mapping[str, Any] | None = None,
        guard: bool | None = None,
        restorer: str | None = None,
        guidance: Mapping[str, float] | None = None,
        steps: int | None = None,
    ) -> Outcome:
        """Refine every picture; picture i has the same seed in every run, so that runs differ in one thing only."""
        options: dict[str, Any] = {"strength": strength, "guard": guard, "restorer": restorer, "guidance": guidance}
        options["num_inference_steps"] = steps
        images, results = self.refine(
            name, cases.pictures, list(prompts or cases.prompts), masks=masks, config=dict(config or {}), **options
        )
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
        """Refine pictures of any sizes."""
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
