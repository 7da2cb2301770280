"""What choosing among repaints and steering by gradient bring and cost: `python -m lab candidates | steer | costs`.

Candidates: the UNet is shown nothing of its source, as SDXL's is not. All tries are drawn once, by a pipeline whose
choosing judge only looks on; then every chooser picks among the same tries, and the judges apart from it decide.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from grefine.refine.candidates import Chooser, open_chooser
from grefine.refine.composite import rounded
from grefine.refine.guard import Panel, decide, reject_regions
from grefine.refine.guidance import Guidance, Steering
from grefine.refine.inputs import pixel_digest
from grefine.refine.maps import MapDrawer
from grefine.refine.settings import RefineConfig, resolve
from grefine.refine.vae import encode_images
from grefine.scorers.fidelity import ssim
from grefine.text.parse import parse
from grefine.types import RepairPlan
from lab.bench import intervals
from lab.bench.cases import Cases, Outcome, Runner, half_and_half, pictures_of, quiet_pipeline
from lab.bench.run import Sizes, defective_cases
from lab.bench.verdicts import judge
from lab.bench_judges.networks import Judges, tie_bands
from lab.world.pictures import tensor_of

CHOOSERS = ("mdiqa", "moe_agiqa", "mdiqa,moe_agiqa", "lar_iqa", "lar_iqa,moe_agiqa", "mdiqa,lar_iqa")
KEEPS, TRUTH = "no judge: what keeps most", "no judge: what is nearest to the clean scene"
"""What the choosers are held against: both by SSIM, the second knows what no chooser can know."""
Seen = dict[bytes, list[list[np.ndarray]]]
"""By picture and region: the picture, and it with each try at the region."""


def candidate_rows(pipeline: str, count: int, tries: int, seed: int, say: Callable[[str], None]) -> Iterator[str]:
    """Give the lines of the table as they are known."""
    pipe: Any = quiet_pipeline(pipeline)
    pipe.register_to_config(unet_traits={})
    part = count / 176
    damaged, heldout, misaligned = (max(1, round(number * part)) for number in (64, 32, 20))
    cases = defective_cases(Sizes(damaged=damaged, heldout=heldout, misaligned=misaligned))
    pictures, texts = cases.pictures, [parse(prompt).text for prompt in cases.prompts]
    run, config = Runner(pipe, seed, say=say), resolve(RefineConfig(), pipe.config.refine_defaults, {})
    seen: Seen = {}

    def onlooker(images: Sequence[Image.Image]) -> list[float]:
        shown = [np.asarray(image) for image in images]
        seen.setdefault(pixel_digest(shown[0]), []).append(shown)
        return [0.0] * len(images)

    options: dict[str, Any] = {"guard": False, "restorer": "none", "scorers": [onlooker]}
    _, results = run.refine("draw", pictures, cases.prompts, candidates=f"{tries} by onlooker", **options)
    plans = [result.plan for result in results]
    maps = MapDrawer.of(*pipe.own_maps(), None, None)
    scorers, looks = pipe.judges(), Judges.load()

    def own(images: Sequence[Image.Image], prompts: Sequence[str | None]) -> list[dict[str, float]]:
        return maps.scores(images, [parse(text) if text else None for text in prompts])

    bands = tie_bands(looks, 200)
    yield f"| who chooses among {tries} (n = {len(cases)}) | one try | chosen | best | share of the gap | worse |"
    yield "| --- | ---: | ---: | ---: | --- | --- |"
    clean = [np.asarray(picture) for picture in pictures_of(cases.clean)]
    for name in (*CHOOSERS, KEEPS, TRUTH):
        say(name)
        chooser = Chooser(tries)
        if name in CHOOSERS:
            chooser = open_chooser(replace(config, candidates=f"{tries} by {name}"), scorers, pipe)
        panel = Panel(own, scorers, choosing=chooser.names)
        found = []
        for image, text, plan, truth in zip(pictures, texts, plans, clean, strict=True):
            regions = seen.get(pixel_digest(np.asarray(image)), [])
            aims = [truth if name == TRUTH else region[0] for region in regions]
            chosen = [1 + _taken(chooser, *one, text) for one in zip(regions, aims, strict=True)]
            numbers = [*([number] * len(regions) for number in range(1, tries + 1)), chosen]
            found.append([_outcome(image, text, plan, regions, taken, panel, config) for taken in numbers])
        verdicts = [judge(looks, bands, cases, tensor_of(images)) for images in zip(*found, strict=True)]
        better, worse = ([[getattr(v, what) for v in one] for one in verdicts] for what in ("improved", "worse"))
        improved, fell = np.array(better, float), np.array(worse, float)  # (tries + 1, n), the chosen last
        one, taken, best = improved[:-1].mean(0), improved[-1], improved[:-1].max(0)
        won = intervals.ratio(taken - one, best - one)
        rates = " | ".join(f"{values.mean():.3f}" for values in (one, taken, best))
        gap = f"{won.value:.2f} ({won.low:.2f} to {won.high:.2f})"
        yield f"| {name} | {rates} | {gap} | {fell[:-1].mean():.3f} → {fell[-1].mean():.3f} |"


def _taken(chooser: Chooser, region: Sequence[np.ndarray], aim: np.ndarray, text: str) -> int:
    """Return which try a chooser takes, or without a judge the one that is most like `aim`."""
    if chooser.parts:
        return chooser.take(region, chooser.rate(region, text), text)
    return int(np.argmax([ssim(one, aim) for one in region[1:]]))


def _outcome(
    image: Image.Image, text: str, plan: RepairPlan, regions: Any, taken: Sequence[int], panel: Panel, config: Any
) -> Image.Image:
    """Return what comes out with one of the tries at each region."""
    picture = after = np.asarray(image)
    singles = [region[number] for region, number in zip(regions, taken, strict=True)]
    if len(singles) > 1:
        boxes = [region.box for region in plan.regions]
        singles = [singles[i] for i in reject_regions(panel, picture, singles, boxes, text, config)[0]]
    for single in singles:
        after = np.where(single != picture, single, after)
    both = {"original": picture, "repainted": after}
    return Image.fromarray(rounded(both[decide(panel, both, text, config)[0].kept])) if regions else image


TRIES = (1, 2, 4, 8)
STEERING = ("sharpness", "mdiqa", "moe-agiqa")


def cost_rows(pipeline: str, count: int, plot: Path | None, say: Callable[[str], None]) -> None:
    """Refine the same pictures in every way, shown nothing of what they redraw, and say CPU seconds per picture."""
    pipe = quiet_pipeline(pipeline)
    pipe.register_to_config(unet_traits={})
    cases, run = half_and_half(count, 1600), Runner(pipe)

    def cost(name: str, **options: Any) -> tuple[float, float]:
        began = time.process_time()
        _, results = run.refine(name, cases.pictures, cases.prompts, **options)
        spent = (time.process_time() - began) / len(cases)
        drawn = sum(sum(result.drawn) for result in results) / len(cases)
        say(f"| {name} | {drawn:.1f} | {spent:.2f} |")
        return drawn, spent

    say("| way | drawn per picture | CPU seconds per picture |")
    say("| --- | ---: | ---: |")
    run.refine("warm", cases.pictures[:4], cases.prompts[:4])
    tries = [cost(f"candidates={number}", candidates=number) for number in TRIES]
    steered = {name: cost(f"steered by {name}", guidance={name: 1.0})[1] for name in STEERING}
    if plot is not None:
        _draw(plot, [spent for _, spent in tries], steered)


def _draw(plot: Path, tries: list[float], steered: dict[str, float]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 3.3), layout="constrained")
    axes.plot(TRIES, tries, "o-", label="candidates=K")
    for style, (name, spent) in zip(("--", ":", "-."), steered.items(), strict=True):
        axes.axhline(spent, color="grey", ls=style, label=f"one try, steered by {name}")
    axes.set(xlabel="K", ylabel="CPU seconds per picture", ylim=(0, None), xticks=TRIES)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    plot.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(plot, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


WAYS: dict[str, tuple[dict[str, float] | None, int | None]] = {
    "none": (None, None),
    "the truth": ({}, None),
    "mdiqa": ({"mdiqa": 1.0}, None),
    "sharpness": ({"sharpness": 1.0}, None),
    "moe-agiqa": ({"moe-agiqa": 1.0}, None),
    "mdiqa and moe-agiqa": ({"mdiqa": 0.5, "moe-agiqa": 0.5}, None),
    "moe-agiqa, a third": ({"moe-agiqa": 0.33}, None),
    "moe-agiqa, three times": ({"moe-agiqa": 3.0}, None),
    "moe-agiqa, last step": ({"moe-agiqa": 1.0}, None),
    "moe-agiqa, smoothed": ({"moe-agiqa": 1.0}, None),
    "moe-agiqa, mean of 8": ({"moe-agiqa": 1.0}, None),
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
    """Steering in one of the ways, whose gradients are compared with the way to the truth."""

    def __init__(
        self, way: str, truth: Truth, cosines: list[float], guidance: Guidance, prompts: Sequence[str], **options: Any
    ):
        super().__init__(guidance, prompts, **options | ({"start": 0.0} if way.endswith("last step") else {}))
        self.way, self.truth, self.cosines = way, truth, cosines

    def gradient(self, vae: Any, clean: Tensor) -> Tensor:
        """Return the gradient, smoothed over five latents or meant over noisy copies where the way says so."""
        if self.way.endswith("mean of 8"):
            noise = torch.Generator().manual_seed(0)
            shaken = [clean + 0.1 * torch.randn(clean.shape, generator=noise) for _ in range(8)]
            found = torch.stack([super(Observed, self).gradient(vae, one) for one in shaken]).mean(0)
        else:
            found = super().gradient(vae, clean)
        if self.way.endswith("smoothed"):
            found = F.avg_pool2d(found, 5, 1, 2, count_include_pad=False)
        goal = encode_images(vae, self.truth.shown(self.prompts) * 2 - 1, clean.device) - clean
        self.cosines += F.cosine_similarity(found.flatten(1), goal.flatten(1)).tolist()
        return found


def steered(runner: Runner, name: str, cases: Cases) -> tuple[Outcome, list[float]]:
    """Run one way; return what came out, and the cosine of each gradient with the way to the clean scene."""
    (weights, steps), truth, cosines = WAYS[name], Truth(cases), []
    read = runner.pipe.read_guidance if weights else lambda _: truth
    observed = mock.patch("grefine.pipeline.Steering", partial(Observed, name, truth, cosines))
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
