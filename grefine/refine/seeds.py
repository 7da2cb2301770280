"""Seeds from (seed, image, region), so that neither order nor the company of other images changes a result."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from grefine.errors import ConfigError

LIMIT = 2**63 - 1


def image_seeds(
    generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> list[tuple[int, int | None]]:
    """Draw one number per image: from its own generator, or the same one for all."""
    if generator is None:
        seed = int(torch.randint(LIMIT, (1,)).item())
        generator = torch.Generator().manual_seed(seed)
    if isinstance(generator, torch.Generator):
        return [_draw(generator)] * count
    if len(generator) != count:
        raise ConfigError(
            f"{len(generator)} generators were given for {count} images: give one for all or one for each."
        )
    return [_draw(one) for one in generator]


def pixel_digest(pixels: np.ndarray) -> bytes:
    """Return what tells this picture from every other."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()


def derive(seed: int, *parts: object) -> int:
    """Mix a seed with whatever names the place it is used at."""
    text = repr((seed, *parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % LIMIT


def _draw(generator: torch.Generator) -> tuple[int, int | None]:
    seed = generator.initial_seed()
    fresh = torch.Generator(generator.device).manual_seed(seed)
    repeatable = bool(torch.equal(fresh.get_state(), generator.get_state()))
    drawn = int(torch.randint(LIMIT, (1,), generator=generator, device=generator.device).item())
    return drawn, seed if repeatable else None
