"""Endless toy scenes for training: every batch is new, and every batch is reproducible from (seed, number)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lab.world.defects import Damaged, damage
from lab.world.render import Rendered, render
from lab.world.scene import Scenes, sample
from lab.world.vocabulary import TRAINING_DEFECTS

TRAIN, VALIDATE = 0, 1_000_003
"""Streams of what the parts of tiny learn, and of what is looked at while they learn."""
BENCHMARK, JUDGES, CHECK = 2_000_003, 3_000_017, 4_000_037
"""Streams of the benchmark's scenes, of what its judges are trained on, and of what they are checked on."""


@dataclass(frozen=True)
class Batch:
    """Clean scenes and the same scenes with one defect each."""

    scenes: Scenes
    clean: Rendered
    damaged: Damaged


def generator(seed: int, number: int, salt: int = 17) -> torch.Generator:
    """Return the random source of batch `number`."""
    return torch.Generator().manual_seed((seed * 1_000_033 + number * 7919 + salt) % (2**63 - 1))


def source(seed: int, number: int) -> torch.Generator:
    """Return the random source of batch `number` of what no pipeline is trained or tuned on."""
    return generator(seed, number, 29)


def batch(
    seed: int,
    number: int,
    count: int,
    size: int = 64,
    device: torch.device | str = "cpu",
    kinds: Sequence[str] = TRAINING_DEFECTS,
) -> Batch:
    """Render batch `number` of the stream `seed`; defects are drawn from `kinds`."""
    random = generator(seed, number)
    scenes = sample(count, random)
    clean = render(scenes, size, device)
    return Batch(scenes, clean, damage(clean.images, clean.objects.any(1), random, kinds))


def signed(images: Tensor) -> Tensor:
    """Bring 0..1 to -1..1, as the autoencoder sees images."""
    return images * 2 - 1
