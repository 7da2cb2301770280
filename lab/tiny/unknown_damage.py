"""Damage of no known kind, so that restoration learns to repair more than the kinds that it was trained on."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.world.defects import Damaged, move_pixels, spoil
from lab.world.vocabulary import TRAINING_DEFECTS

SHARES = (0.74, 0.12, 0.14)
"""Of pictures that keep their damage as it is, get a second kind on top of it, or one of the strange ones here."""


def with_unknown_damage(damaged: Damaged, generator: torch.Generator) -> Damaged:
    """Spoil some of the damaged places further, inside the same masks; severity is not kept up to date."""
    count = len(damaged.images)
    fate = torch.multinomial(torch.tensor(SHARES), count, True, generator=generator)
    images = damaged.images.clone()
    place = _soft(damaged.masks)
    for chosen, changes in ((1, _second), (2, _strange)):
        rows = (fate == chosen).nonzero()[:, 0].to(images.device)
        if len(rows):
            changed = changes(damaged.images[rows], generator)
            images[rows] += (changed - damaged.images[rows]) * place[rows]
    return replace(damaged, images=images.clamp(0, 1))


def _soft(masks: Tensor) -> Tensor:
    """(B, 1, S, S) float: the masks with an edge of a few pixels."""
    return F.avg_pool2d(F.pad(masks[:, None].float(), [1] * 4, mode="replicate"), 3, 1)


def _second(images: Tensor, generator: torch.Generator) -> Tensor:
    kinds = [TRAINING_DEFECTS[i] for i in torch.randint(len(TRAINING_DEFECTS), (len(images),), generator=generator)]
    return spoil(images, kinds, 0.1 + 0.6 * torch.rand(len(images), generator=generator), generator)


def _strange(images: Tensor, generator: torch.Generator) -> Tensor:
    fate = torch.randint(len(_STRANGE), (len(images),), generator=generator)
    found = images.clone()
    for code, change in enumerate(_STRANGE):
        rows = (fate == code).nonzero()[:, 0].to(images.device)
        if len(rows):
            found[rows] = change(images[rows], generator)
    return found


def _scattered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Read every pixel at a random place near it, as through frosted glass."""
    size = images.shape[-1]
    reach = (1.0 + 3.0 * torch.rand(len(images), 1, 1, generator=generator)).to(images.device)
    moves = torch.randn(2, len(images), size, size, generator=generator).to(images.device)
    return move_pixels(images, moves[0] * reach, moves[1] * reach)


def _mosaic(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the picture in large square cells."""
    found = []
    for image in images:
        cell = (2, 4, 8)[int(torch.randint(3, (1,), generator=generator))]
        found.append(F.interpolate(F.avg_pool2d(image[None], cell), scale_factor=cell, mode="nearest"))
    return torch.cat(found)


def _swapped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Show another picture through, at any strength."""
    strength = 0.3 + 0.7 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return images + (images.roll(1, 0).flip(-1) - images) * strength.to(images.device)


def _flat(images: Tensor, generator: torch.Generator) -> Tensor:
    """Fill with any one colour, most of the way."""
    colour = torch.rand(len(images), 3, 1, 1, generator=generator).to(images.device)
    return images + (colour - images) * (0.5 + 0.5 * torch.rand(len(images), 1, 1, 1, generator=generator)).to(
        images.device
    )


_STRANGE: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (
    *(_scattered,) * 3,
    *(_mosaic,) * 2,
    _swapped,
    _flat,
)
