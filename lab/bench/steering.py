"""What steering by gradient brings, by the referee: ways of steering beside none, on the same pictures and seeds."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from grefine.refine.guidance import Guidance, Steering
from grefine.refine.vae import encode_images
from lab.bench import intervals
from lab.bench.cases import Cases, half_and_half
from lab.bench.chain import Outcome, Runner, quiet_pipeline
from lab.bench.verdicts import judge
from lab.bench_judges.check import tie_bands
from lab.bench_judges.networks import Judges

WAYS: dict[str, tuple[dict[str, float] | None, int | None]] = {
    "none": (None, None),
    "the truth": ({}, None),
    "mdiqa": ({"mdiqa": 1.0}, None),
    "sharpness": ({"sharpness": 1.0}, None),
    "moe-agiqa": ({"moe-agiqa": 1.0}, None),
    "mdiqa and moe-agiqa": ({"mdiqa": 0.5, "moe-agiqa": 0.5}, None),
    "moe-agiqa, a third": ({"moe-agiqa": 0.33}, None),
    "moe-agiqa, three times": ({"moe-agiqa": 3.0}, None),
    "20 steps: none": (None, 20),
    "20 steps: the truth": ({}, 20),
    "20 steps: mdiqa": ({"mdiqa": 1.0}, 20),
    "20 steps: moe-agiqa": ({"moe-agiqa": 1.0}, 20),
}
"""Weights and steps; empty weights steer by the truth, None not at all and comes first of its number of steps."""


class Truth:
    """The clean scene as a preference: what a perfect judge would ask for."""

    strength, steers = 1.0, ()

    def __init__(self, cases: Cases) -> None:
        self.clean = dict(zip(cases.prompts, cases.clean, strict=True))

    def shown(self, prompts: Sequence[str] | None) -> Tensor:
        return torch.stack([self.clean[prompt] for prompt in prompts or ()])

    def gradient(self, image: Tensor, prompts: Sequence[str] | None = None) -> Tensor:
        """Return the way to the clean scene."""
        return self.shown(prompts) - image


class Observed(Steering):
    """Steering whose gradients are compared with the way to the truth."""

    def __init__(self, truth: Truth, cosines: list[float], guidance: Guidance, prompts: Sequence[str], **options: Any):
        super().__init__(guidance, prompts, **options)
        self.truth, self.cosines = truth, cosines

    def gradient(self, vae: Any, clean: Tensor) -> Tensor:
        """Return the gradient and note its angle."""
        found = super().gradient(vae, clean)
        goal = encode_images(vae, self.truth.shown(self.prompts) * 2 - 1, clean.device) - clean
        self.cosines += F.cosine_similarity(found.flatten(1), goal.flatten(1)).tolist()
        return found


def steered(runner: Runner, name: str, cases: Cases) -> tuple[Outcome, list[float]]:
    """Run one way; return what came out, and the cosine of each gradient with the way to the clean scene."""
    (weights, steps), truth, cosines = WAYS[name], Truth(cases), []
    read = runner.pipe.read_guidance if weights else lambda _: truth
    observed = mock.patch("grefine.pipeline.Steering", partial(Observed, truth, cosines))
    with observed, mock.patch.object(runner.pipe, "read_guidance", read):
        guidance = {"the truth": 1.0} if weights == {} else weights
        return runner(name, cases, num_inference_steps=steps, guidance=guidance), cosines


def steering_rows(count: int, say: Callable[[dict[str, Any]], None]) -> None:
    """Say one row per way: improved, worse, distance beside no steering with as many steps, angle, CPU seconds."""
    judges, runner, cases = Judges.load(), Runner(quiet_pipeline("tiny")), half_and_half(count, 1500)
    cases = cases[sorted({prompt: row for row, prompt in enumerate(cases.prompts)}.values())]  # no caption twice
    bands, plain = tie_bands(judges), {}
    for name, (weights, steps) in WAYS.items():
        began = time.process_time()
        out, cosines = steered(runner, name, cases)
        seconds = time.process_time() - began
        found = judge(judges, bands, cases, out.images)
        after = [found[i].after for i in cases.perceptual]
        if weights is None:
            plain[steps] = after
        ratio = intervals.ratio(after, plain[steps])
        say(
            {
                "way": name,
                "n": len(cases),
                "improved": sum(v.improved for v in found),
                "worse": sum(v.worse for v in found),
                "distance": [round(v, 3) for v in (ratio.value, ratio.low, ratio.high)],
                "cosine": round(sum(cosines) / max(len(cosines), 1), 3),
                "cpu": round(seconds, 1),
            }
        )
