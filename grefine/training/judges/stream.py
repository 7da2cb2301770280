"""Toy pictures with their true quality: whole, damaged in a place, or distorted as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from grefine.models.mdiqa import DIMENSIONS
from grefine.toyworld.defects import Damaged, damage
from grefine.toyworld.render import Rendered, render
from grefine.toyworld.scene import Scenes, sample
from grefine.toyworld.vocabulary import DEFECT_KINDS, TRAINING_DEFECTS
from grefine.training.judges.distortions import distort

# The judges see other scenes than the parts of the pipeline do, whose streams start at 0, 1,000,003 and 2,000,003.
JUDGE_TRAIN, JUDGE_VALIDATE, JUDGE_TEST = 5_000_011, 6_000_011, 7_000_003

SEVERE = 0.2
"""Severity at which a local defect counts as fully bad."""
LOCAL_DIMENSION = {"blur": "sharpness", "noise": "noisiness", "jpeg": "noisiness", "cast": "color", "warp": "content"}
"""Which dimension a local defect belongs to; banding counts in the overall quality alone."""


@dataclass(frozen=True)
class Judged:
    """Pictures and what a perfect judge would say."""

    scenes: Scenes
    clean: Rendered
    images: Tensor
    """(B, 3, S, S), 0..1."""
    dimensions: Tensor
    """(B, 9) in 0..1, in the order of `DIMENSIONS`."""
    quality: Tensor
    """(B,) in 0..1, 1 for a clean picture."""
    severity: Tensor
    """(B,) true severity of the local defect, 0 without."""
    damaged: Damaged


def source(seed: int, number: int) -> torch.Generator:
    """Return the random source of batch `number`."""
    return torch.Generator().manual_seed((seed * 1_000_033 + number * 7919 + 17) % (2**63 - 1))


def local_loss(severity: Tensor) -> Tensor:
    """Map the severity of a local defect to a loss of quality in 0..1, steeper where it just becomes visible."""
    return (severity / SEVERE).clamp(0, 1).sqrt()


def quality_of(dimensions: Tensor, local: Tensor) -> Tensor:
    """Return the true overall quality: every fault takes its share of what the others left."""
    return (1 - 0.6 * (1 - dimensions)).prod(dim=1) * (1 - 0.8 * local)


def judged(
    seed: int,
    number: int,
    count: int,
    size: int = 64,
    damaged_share: float = 0.5,
    distorted_share: float = 0.18,
    kinds: tuple[str, ...] = TRAINING_DEFECTS,
    device: torch.device | str = "cpu",
) -> Judged:
    """Render batch `number`: a share with a local defect, and every dimension distorted in a share of its own."""
    generator = source(seed, number)
    scenes = sample(count, generator)
    clean = render(scenes, size, device)
    hurt = damage(clean.images, clean.objects.any(1), generator, kinds)
    use = (torch.rand(count, generator=generator) < damaged_share).to(clean.images.device)
    severity = hurt.severity * use
    images = torch.where(use[:, None, None, None], hurt.images, clean.images)
    strengths = torch.rand(count, len(DIMENSIONS), generator=generator)
    chosen = torch.rand(count, len(DIMENSIONS), generator=generator) < distorted_share
    strengths = (strengths * chosen).to(images.device)
    # Noise and blur come last, as a camera or a codec would add them.
    for name in ("composition", "content", "light", "brightness", "contrast", "colorfulness", "color"):
        images = distort(images, name, strengths[:, DIMENSIONS.index(name)], generator)
    for name in ("sharpness", "noisiness"):
        images = distort(images, name, strengths[:, DIMENSIONS.index(name)], generator)
    local = local_loss(severity)
    dimensions = 1 - strengths
    for kind, name in LOCAL_DIMENSION.items():
        rows, column = hurt.kinds == DEFECT_KINDS.index(kind), DIMENSIONS.index(name)
        whole = (1 - dimensions[:, column]) * (1 - 0.7 * local)
        worse = 1 - whole - 0.7 * local
        dimensions[:, column] = torch.where(rows, worse, dimensions[:, column])
    return Judged(scenes, clean, images, dimensions, quality_of(1 - strengths, local), severity, hurt)
