"""Rows of the pipeline's own quality networks (those of its guard), against the truth of the toy world."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grefine.models.mdiqa import TECHNICAL
from lab.bench import intervals
from lab.bench.cases import Cases, clean_cases, damaged_cases, pictures_of
from lab.bench.report import Report
from lab.world.captions import matches
from lab.world.seeds import BENCHMARK, source


def add_scorer_rows(report: Report, pipe: Any, count: int) -> None:
    """Measure each of MoE-AGIQA, MDIQA and LAR-IQA that the pipeline holds; the others are named as absent."""
    scorers = {scorer.spec.name: scorer for scorer in pipe.judges()}
    mixed = Cases.cat([damaged_cases(count, 70), clean_cases(count // 4, 71)])
    quality = -mixed.severity.numpy()
    for name, row, value in (("moe_agiqa", "judge.moe", "moe_agiqa.quality"), ("lar_iqa", "judge.lar", "lar_iqa")):
        if name not in scorers:
            report.absent[row] = f"the pipeline has no {name}"
            continue
        scores = [s[value] for s in scorers[name](mixed.pictures, mixed.prompts)]
        report.add({row: intervals.correlation(scores, quality)})
    if "moe_agiqa" in scorers:
        report.add({"judge.prompt": intervals.share(_swapped(scorers["moe_agiqa"], clean_cases(count, 72)))})
    else:
        report.absent["judge.prompt"] = report.absent["judge.moe"]
    if "mdiqa" in scorers:
        report.add(_dimension_rows(scorers["mdiqa"], count))
    else:
        report.absent["judge.mdiqa"] = report.absent["judge.mdiqa.own"] = "the pipeline has no mdiqa"


def _swapped(scorer: Any, cases: Cases) -> list[bool]:
    """Whether the judge of prompt and picture falls when a picture gets the next picture's prompt, which is not true.

    Its alignment is read where it rates one, its quality otherwise.
    """
    rows = torch.arange(len(cases))
    following = cases.captions[1:] + cases.captions[:1]
    untrue = ~matches(cases.scenes, [caption.objects[0] for caption in following])[rows, :, rows].any(1)
    own, other = (scorer(cases.pictures, [c.text for c in captions]) for captions in (cases.captions, following))
    name = "moe_agiqa.alignment" if "moe_agiqa.alignment" in own[0] else "moe_agiqa.quality"
    return [b[name] < a[name] for a, b, use in zip(own, other, untrue.tolist(), strict=True) if use]


def _dimension_rows(scorer: Any, count: int) -> dict[str, Any]:
    """Correlate each technical dimension with the strength of its own distortion, and see which one moves it most."""
    cases, strength = clean_cases(count, 73), torch.rand(count, generator=source(BENCHMARK, 74))

    def rated(images: Tensor) -> np.ndarray:
        return np.array([[one[f"mdiqa.{name}"] for name in TECHNICAL] for one in scorer(pictures_of(images))])

    before = rated(cases.clean)
    spoilt = [rated(DISTORTIONS[name](cases.clean, strength[:, None, None, None])) for name in TECHNICAL]
    own = [values[:, column] for column, values in enumerate(spoilt)]
    truth, names = -strength.numpy(), (f"judge.mdiqa.{name}" for name in TECHNICAL)
    rows = {name: intervals.correlation(values, truth) for name, values in zip(names, own, strict=True)}
    falls = np.stack([(before - values).mean(0) for values in spoilt])
    rows["judge.mdiqa"] = intervals.mean_correlation(np.stack(own), truth)
    rows["judge.mdiqa.own"] = intervals.share(falls.argmax(0) == np.arange(len(TECHNICAL)))
    return rows


def _grey(images: Tensor) -> Tensor:
    return (images * torch.tensor([0.30, 0.59, 0.11])[:, None, None]).sum(1, keepdim=True)


def _blurred(images: Tensor, s: Tensor) -> Tensor:
    soft = images
    for _ in range(4):
        soft = F.avg_pool2d(F.pad(soft, [1] * 4, mode="replicate"), 3, 1)
    return images + (soft - images) * s


def _noisy(images: Tensor, s: Tensor) -> Tensor:
    return images + 0.18 * s * torch.randn(images.shape, generator=source(BENCHMARK, 75))


DISTORTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": lambda images, s: images * (1 - 0.7 * s),
    "colorfulness": lambda images, s: images + (_grey(images) - images) * s,
    "contrast": lambda images, s: images + (_grey(images).mean((2, 3), keepdim=True) - images) * 0.8 * s,
    "noisiness": _noisy,
    "sharpness": _blurred,
}
"""The benchmark's own whole-picture distortions, by the technical dimension that each is about."""
