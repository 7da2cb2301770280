"""What steering by gradient brings, by the referee: ways of steering beside none, on the same pictures and seeds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Way:
    """One way of steering; empty weights steer by the truth, None not at all."""

    weights: Mapping[str, float] | None = None
    steps: int | None = None
    last: bool = False
    """At the last step of each stage alone."""
    blur: bool = False
    """The gradient is smoothed over five latents."""
    copies: int = 0
    """The gradient is the mean over so many noisy copies of the clean latents."""


WAYS = {
    "none": Way(),
    "the truth": Way({}),
    "mdiqa": Way({"mdiqa": 1.0}),
    "sharpness": Way({"sharpness": 1.0}),
    "moe-agiqa": Way({"moe-agiqa": 1.0}),
    "mdiqa and moe-agiqa": Way({"mdiqa": 0.5, "moe-agiqa": 0.5}),
    "moe-agiqa, a third": Way({"moe-agiqa": 0.33}),
    "moe-agiqa, three times": Way({"moe-agiqa": 3.0}),
    "moe-agiqa, last step": Way({"moe-agiqa": 1.0}, last=True),
    "moe-agiqa, smoothed": Way({"moe-agiqa": 1.0}, blur=True),
    "moe-agiqa, mean of 8": Way({"moe-agiqa": 1.0}, copies=8),
    "20 steps: none": Way(steps=20),
    "20 steps: the truth": Way({}, steps=20),
    "20 steps: mdiqa": Way({"mdiqa": 1.0}, steps=20),
    "20 steps: moe-agiqa": Way({"moe-agiqa": 1.0}, steps=20),
    "20 steps: moe-agiqa, mean of 8": Way({"moe-agiqa": 1.0}, steps=20, copies=8),
}


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
    """Steering in one of the ways, whose gradients are compared with the way to the truth."""

    def __init__(
        self, way: Way, truth: Truth, cosines: list[float], guidance: Guidance, prompts: Sequence[str], **options: Any
    ):
        super().__init__(guidance, prompts, **({"start": 0.0} if way.last else {}), **options)
        self.way, self.truth, self.cosines = way, truth, cosines

    def gradient(self, vae: Any, clean: Tensor) -> Tensor:
        """Return the gradient, smoothed or averaged where the way says so."""
        if self.way.copies:
            noise = torch.Generator().manual_seed(0)
            shaken = [clean + 0.1 * torch.randn(clean.shape, generator=noise) for _ in range(self.way.copies)]
            found = torch.stack([super(Observed, self).gradient(vae, one) for one in shaken]).mean(0)
        else:
            found = super().gradient(vae, clean)
        if self.way.blur:
            found = F.avg_pool2d(found, 5, 1, 2, count_include_pad=False)
        goal = encode_images(vae, self.truth.shown(self.prompts) * 2 - 1, clean.device) - clean
        self.cosines += F.cosine_similarity(found.flatten(1), goal.flatten(1)).tolist()
        return found


def steered(
    runner: Runner, name: str, way: Way, cases: Cases, guard: bool | None = None
) -> tuple[Outcome, list[float]]:
    """Run one way; return what came out, and the cosine of each gradient with the way to the clean scene."""
    truth, cosines = Truth(cases), []
    read = runner.pipe.read_guidance if way.weights else lambda _: truth
    observed = mock.patch("grefine.pipeline.Steering", partial(Observed, way, truth, cosines))
    with observed, mock.patch.object(runner.pipe, "read_guidance", read):
        guidance = way.weights if way.weights != {} else {"the truth": 1.0}
        return runner(name, cases, num_inference_steps=way.steps, guard=guard, guidance=guidance), cosines


def steering_rows(count: int, guard: bool | None, names: Sequence[str], say: Callable[[dict[str, Any]], None]) -> None:
    """Say one row per way: improved, worse, distance beside no steering with as many steps, angle, CPU seconds."""
    judges, runner, cases = Judges.load(), Runner(quiet_pipeline("tiny")), half_and_half(count, 1500)
    cases = cases[sorted({prompt: row for row, prompt in enumerate(cases.prompts)}.values())]  # no caption twice
    bands, plain = tie_bands(judges), {}
    for name in names:
        way, began = WAYS[name], time.process_time()
        out, cosines = steered(runner, name, way, cases, guard)
        seconds = time.process_time() - began
        found = judge(judges, bands, cases, out.images)
        after = [found[i].after for i in cases.perceptual]
        if way.weights is None:
            plain[way.steps] = after
        ratio = intervals.ratio(after, plain[way.steps])
        say(
            {
                "way": name,
                "n": len(cases),
                "improved": sum(v.improved for v in found),
                "worse": sum(v.worse for v in found),
                "distance": [round(v, 3) for v in (ratio.value, ratio.low, ratio.high)],
                "guarded": sum(result.decision.guarded for result in out.results),
                "kept": sum(result.decision.kept != "original" for result in out.results),
                "cosine": round(sum(cosines) / max(len(cosines), 1), 3),
                "cpu": round(seconds, 1),
            }
        )
