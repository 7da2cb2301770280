"""Toy pictures with their true quality: whole, damaged in a place, or distorted as a whole."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from grefine.models.mdiqa import DIMENSIONS
from lab.world.defects import Damaged, damage, gaussian_blur, tints
from lab.world.pictures import as_files
from lab.world.render import Rendered, render
from lab.world.scene import Scenes, sample
from lab.world.stream import generator
from lab.world.vocabulary import DEFECT_KINDS, TRAINING_DEFECTS


def distort(images: Tensor, dimension: str, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Return `(B, 3, S, S)` images in 0..1 that are bad in one dimension; at strength 0 as they were."""
    strength = strength[:, None, None, None]
    return torch.where(strength > 0, _DISTORTIONS[dimension](images, strength, generator).clamp(0, 1), images)


def _signs(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5, -1.0, 1.0).to(images.device)


def _luma(images: Tensor) -> Tensor:
    return (images * torch.tensor([0.299, 0.587, 0.114], device=images.device)[:, None, None]).sum(1, keepdim=True)


def _brightness(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Expose wrongly: too little light, or so much that highlights are lost."""
    dark = _signs(images, generator) < 0
    return torch.where(dark, images * (1 - 0.72 * s), images * (1 + 0.9 * s) + 0.08 * s)


def _sharpness(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Blur: out of focus, or, in half of the pictures, softly, with the sharp picture shining through."""
    soft = _signs(images, generator) < 0
    focus = torch.where(soft, torch.ones_like(s), s)
    blurred = gaussian_blur(images, 0.25 + 2.0 * focus[:, 0, 0] * images.shape[-1] / 64, 6, "reflect")
    return torch.where(soft, images + (blurred - images) * s, blurred)


def _composition(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Tilt the horizon, up to 35 degrees."""
    angle = (s * _signs(images, generator))[:, 0, 0, 0] * math.radians(35)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
    grid = F.affine_grid(turn, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _content(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Lose parts of the picture: flat grey squares, up to a third of all cells."""
    lost = torch.rand(len(images), 1, 8, 8, generator=generator).to(images.device) < 0.35 * s
    lost = F.interpolate(lost.float(), images.shape[-2:])
    return images + (0.5 - images) * lost


def _light(images: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """Light one side only."""
    size = images.shape[-1]
    axis = torch.linspace(-1, 1, size, device=images.device)
    angle = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device) * 2 * math.pi
    ramp = axis[None, None, None, :] * angle.cos() + axis[None, None, :, None] * angle.sin()
    return images * (1 - 0.85 * s * (0.5 + 0.5 * ramp / 1.2).clamp(0, 1)) * (1 + 0.25 * s)


_DISTORTIONS: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "brightness": _brightness,
    "colorfulness": lambda images, s, _: images + (_luma(images) - images) * s,
    "contrast": lambda images, s, _: images + (_luma(images).mean((2, 3), keepdim=True) - images) * 0.8 * s,
    "noisiness": lambda images, s, g: images + 0.20 * s * torch.randn(images.shape, generator=g).to(images.device),
    "sharpness": _sharpness,
    "color": lambda images, s, generator: images + 0.28 * s * tints(images, generator),
    "composition": _composition,
    "content": _content,
    "light": _light,
}


# The judges see other scenes than the parts of the pipeline do, whose streams start at 0, 1,000,003 and 2,000,003.
JUDGE_TRAIN, JUDGE_VALIDATE, JUDGE_TEST = 5_000_011, 6_000_011, 7_000_003

OBVIOUS = 0.15
"""Mean absolute change from which a place counts as fully damaged, as the toy world's severity has it."""
SEVERE = 0.2
"""Severity at which a local defect counts as fully bad."""
LOCAL_DIMENSION = {"blur": "sharpness", "noise": "noisiness", "jpeg": "noisiness", "cast": "color", "warp": "content"}
"""Which dimension a local defect belongs to; banding counts in the overall quality alone."""


ORDER = (
    "composition",
    "content",
    "light",
    "brightness",
    "contrast",
    "colorfulness",
    "color",
    "sharpness",
    "noisiness",
)
"""Noise and blur come last, as a camera or a codec would add them."""


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

    def visible(self, cells: int) -> Tensor:
        """Return `(B, cells, cells)` in 0..1, how much damage shows in each cell; its mean is the severity."""
        change = (self.damaged.images - self.clean.images).abs().mean(1, keepdim=True)
        change = F.avg_pool2d(F.pad(change, [4] * 4, mode="replicate"), 9, 1)[:, 0] * self.damaged.masks
        shown = (change / OBVIOUS).clamp(max=1) * (self.severity > 0)[:, None, None]
        return F.adaptive_avg_pool2d(shown, cells)


def judged(
    seed: int,
    number: int,
    count: int,
    damaged_share: float = 0.5,
    distorted_share: float = 0.18,
    kinds: tuple[str, ...] = TRAINING_DEFECTS,
    device: torch.device | str = "cpu",
    single_share: float = 0.0,
    versions: int = 1,
    local_exponent: float = 0.5,
    files: float = 0.0,
) -> Judged:
    """Render batch `number`: a share with a local defect, and every dimension distorted in a share of its own.

    A `single_share` is distorted in one dimension instead. `versions` pictures show each scene, so that what it shows
    cannot tell their qualities apart. With a `local_exponent` below 1 little local damage counts for more. A share
    goes through `files` at last, which costs no quality.
    """
    source = generator(seed, number)
    scenes = sample(count // versions, source)
    clean = render(scenes, 64, device)
    if versions > 1:
        again = torch.arange(len(scenes)).repeat(versions)
        scenes = scenes[again]
        clean = Rendered(*(getattr(clean, f.name)[again.to(clean.images.device)] for f in fields(Rendered)))
    hurt = damage(clean.images, clean.objects.any(1), source, kinds)
    use = torch.rand(count, generator=source) < damaged_share
    strengths = torch.rand(count, len(DIMENSIONS), generator=source)
    chosen = torch.rand(count, len(DIMENSIONS), generator=source) < distorted_share
    if single_share > 0:
        single = torch.rand(count, generator=source) < single_share
        alone = F.one_hot(torch.randint(len(DIMENSIONS), (count,), generator=source), len(DIMENSIONS)).bool()
        chosen, use = torch.where(single[:, None], alone, chosen), use & ~single
    use = use.to(clean.images.device)
    severity = hurt.severity * use
    images = torch.where(use[:, None, None, None], hurt.images, clean.images)
    strengths = (strengths * chosen).to(images.device)
    for name in ORDER:
        strength = strengths[:, DIMENSIONS.index(name)]
        rows = (strength > 0).nonzero()[:, 0]  # most pictures are not distorted, and each costs its share
        if len(rows):
            images = images.clone()
            images[rows] = distort(images[rows], name, strength[rows], source)
    images = as_files(images, source, files) if files else images
    part = (severity / SEVERE).clamp(0, 1)
    # Every fault takes its share of what the others left; a local one steeply where it just becomes visible.
    dimensions, lost = 1 - strengths, 0.7 * part**local_exponent
    quality = (1 - 0.6 * (1 - dimensions)).prod(dim=1) * (1 - 0.8 * part.sqrt())
    for kind, name in LOCAL_DIMENSION.items():
        rows, column = hurt.kinds == DEFECT_KINDS.index(kind), DIMENSIONS.index(name)
        whole = (1 - dimensions[:, column]) * (1 - lost)
        dimensions[:, column] = torch.where(rows, 1 - whole - lost, dimensions[:, column])
    return Judged(scenes, clean, images, dimensions, quality, severity, hurt)
