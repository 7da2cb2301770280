"""Shows on the user's own pictures that the maps mean what they say: three experiments with a known answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from grefine.errors import ConfigError, PromptError
from grefine.indicators.aq_map import AQMap, Prompt, parsed_prompt
from grefine.indicators.pq_map import PQMap
from grefine.types import ParsedPrompt

FEWEST = 4
MOST_FAILURES = 0.25
"""A check passes while no more than this share of the pictures answers wrongly."""
PATCH = 0.3
"""Side of the pasted defect as a share of the image's."""


@dataclass(frozen=True, slots=True)
class Check:
    """One experiment over all pictures."""

    name: str
    right: int
    """Pictures that answered as they must."""
    total: int
    change: float
    """Mean change of what is measured; negative where it must fall."""

    @property
    def passed(self) -> bool:
        """True when enough pictures answered rightly and the mean fell."""
        return self.right >= self.least and self.change < 0

    @property
    def least(self) -> int:
        """How many pictures must answer rightly."""
        return math.ceil((1 - MOST_FAILURES) * self.total)


def selfcheck(pq: PQMap, aq: AQMap, images: Sequence[Image.Image], prompts: Sequence[Prompt]) -> list[Check]:
    """Blur every image, swap its prompt, paste a defect, and see whether the maps notice."""
    if len(images) < FEWEST:
        raise ConfigError(f"A self-check needs at least {FEWEST} images with prompts, got {len(images)}.")
    if len(prompts) != len(images):
        raise PromptError(f"A self-check needs one prompt per image: got {len(prompts)} for {len(images)} images.")
    parsed = [parsed_prompt(prompt) for prompt in prompts]
    blurred = [image.convert("RGB").filter(ImageFilter.GaussianBlur(min(image.size) / 25)) for image in images]
    before, after = ([quality.score for quality in pq(batch)] for batch in (images, blurred))
    scored = list(zip(before, after, strict=True))
    return [_check("blur lowers p", scored), swap_lowers_a(aq, images, parsed), defect_is_found(pq, images)]


def swap_lowers_a(aq: AQMap, images: Sequence[Image.Image], prompts: Sequence[ParsedPrompt]) -> Check:
    """Check that a falls when an image is judged against the prompt of another one."""
    if len({prompt.text for prompt in prompts}) < 2:
        raise ConfigError("All prompts of the self-check are alike, so they cannot be swapped: give different images.")
    others = [
        next(one for one in (*prompts[index + 1 :], *prompts[:index]) if one.text != prompt.text)
        for index, prompt in enumerate(prompts)
    ]
    encoding = aq.encode(images)
    before, after = ([result.score for result in aq(images, asked, encoding)] for asked in (prompts, others))
    scored = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    if not scored:
        raise PromptError("None of the prompts names anything that can be seen, so no alignment can be checked.")
    return _check("a swapped prompt lowers a", scored)


def defect_is_found(pq: PQMap, images: Sequence[Image.Image]) -> Check:
    """Check that P falls more inside a patch of noise that is pasted than outside it."""
    spoilt, boxes = zip(*(paste_noise(image, seed) for seed, image in enumerate(images)), strict=True)
    falls = []
    for before, after, (left, top, right, bottom) in zip(pq(images), pq(list(spoilt)), boxes, strict=True):
        fall = after.values - before.values
        inside = np.zeros(fall.shape, dtype=bool)
        inside[top:bottom, left:right] = True
        falls.append((float(fall[~inside].mean()), float(fall[inside].mean())))
    return _check("a pasted defect is found", falls)


def paste_noise(image: Image.Image, seed: int) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Return a copy with a square of coarse noise over its content, and where it is."""
    rng = np.random.default_rng(seed)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32).copy()
    height, width = pixels.shape[:2]
    side = max(2, round(PATCH * min(height, width)))
    top, left = (int(rng.integers(0, max(1, length - side))) for length in (height, width))
    grain = max(1, round(min(height, width) / 64))
    cells = -(-side // grain)
    noise = np.kron(rng.normal(0, 70, (cells, cells, 3)), np.ones((grain, grain, 1)))
    noise = noise[: min(side, height - top), : min(side, width - left)]
    box = (left, top, left + noise.shape[1], top + noise.shape[0])
    pixels[top : box[3], left : box[2]] += noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), box


def _check(name: str, scored: Sequence[tuple[float, float]]) -> Check:
    """Compare what was measured before and after."""
    change = np.diff(np.asarray(scored), axis=1)[:, 0]
    return Check(name, int((change < 0).sum()), len(change), float(change.mean()))
