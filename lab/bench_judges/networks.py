"""The judges of the benchmark: plain convolutional nets that no pipeline ever loads.

`AttributeJudge` reads colour, thing and texture at a known place; `Referee` sees the whole picture, finds defects and
things anywhere, and its features measure how far two pictures are apart.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from grefine.errors import WeightsCorrupt
from grefine.evaluate.statistics import noise_band
from grefine.indicators.evidence import separation_of
from lab.world.defects import damage
from lab.world.pictures import tensor_of, through, to_picture
from lab.world.render import render
from lab.world.scene import Scenes, sample
from lab.world.stream import CHECK, source
from lab.world.vocabulary import COLOURS, DEFECT_KINDS, NOUNS, TEXTURES

Net = TypeVar("Net", bound=nn.Module)
WEIGHTS = Path(__file__).parent / "weights"
CROP = 32
"""Side of the crop that the attribute judge reads."""
REACH = 1.2
"""Half side of the crop in object radii."""
NONE = len(NOUNS)
"""The judge's answer for a place without a thing."""
SOUND = len(DEFECT_KINDS)
"""The referee's answer for a cell without a defect."""
CELL = 4
"""Pixels of 64 per cell of the referee's answers."""


def _block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)
    )


class AttributeJudge(nn.Module):
    """Names colour, thing (or none) and texture of what a crop shows."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(_block(3, 32), _block(32, 64, 2), _block(64, 96, 2), _block(96, 128, 2))
        self.squeeze = _block(128, 32)
        self.heads = nn.Linear(32 * (CROP // 8) ** 2, len(COLOURS) + len(NOUNS) + 1 + len(TEXTURES))

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of colour (M, 8), thing or none (M, 9) and texture (M, 4) of crops (M, 3, 32, 32) in 0..1."""
        features = self.squeeze(self.body(crops * 2 - 1)).flatten(1)
        colour, noun, texture = self.heads(features).split([len(COLOURS), len(NOUNS) + 1, len(TEXTURES)], 1)
        return colour, noun, texture


@dataclass(frozen=True)
class Seen:
    """What the referee sees in every cell of 4x4 pixels; logits (B, classes, S / 4, S / 4)."""

    defect: Tensor
    """Over `DEFECT_KINDS` and, last, none."""
    noun: Tensor
    """Over `NOUNS` and, last, none."""
    colour: Tensor
    texture: Tensor


class Referee(nn.Module):
    """Looks at whole pictures, cell by cell."""

    def __init__(self) -> None:
        super().__init__()
        self.full, self.halved, self.quartered = _block(3, 16), _block(16, 32, 2), _block(32, 64, 2)
        self.eighth, self.joined = _block(64, 96, 2), _block(96 + 64, 64)
        self.sizes = (len(DEFECT_KINDS) + 1, len(NOUNS) + 1, len(COLOURS), len(TEXTURES))
        self.heads = nn.Conv2d(64, sum(self.sizes), 1)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the features of pictures (B, 3, S, S) in 0..1 at full, half and quarter size."""
        full = self.full(images * 2 - 1)
        halved = self.halved(full)
        return [full, halved, self.quartered(halved)]

    def forward(self, images: Tensor) -> Seen:
        """Judge pictures (B, 3, S, S) in 0..1."""
        quarter = self.features(images)[-1]
        coarse = F.interpolate(self.eighth(quarter), scale_factor=2.0)
        up = self.joined(torch.cat([coarse, quarter], 1))
        return Seen(*self.heads(up).split(list(self.sizes), 1))


def crop(images: Tensor, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Cut (M, 3, 32, 32) around centres and radii (M,) in shares of the side out of images (M, 3, S, S)."""
    step = (torch.arange(CROP, device=images.device) + 0.5) / CROP * 2 - 1
    gx = 2 * (x[:, None] + step * REACH * radius[:, None]) - 1
    gy = 2 * (y[:, None] + step * REACH * radius[:, None]) - 1
    grid = torch.stack([gx[:, None, :].expand(-1, CROP, -1), gy[:, :, None].expand(-1, -1, CROP)], -1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Reading:
    """What the attribute judge reads at every object slot; (B, K) long. Slots without an object hold what is there."""

    colour: Tensor
    noun: Tensor
    """`NONE` where nothing stands."""
    texture: Tensor

    def right(self, scenes: Scenes) -> Tensor:
        """Return (B, K, 3) bool: colour, thing and texture are as the scenes ask; True in empty slots."""
        pairs = ((self.colour, scenes.colour), (self.noun, scenes.noun), (self.texture, scenes.texture))
        return torch.stack([(seen == asked) | ~scenes.present for seen, asked in pairs], -1)


class Judges:
    """Both judges with their weights, ready to judge pictures (B, 3, S, S) float in 0..1 on the CPU."""

    def __init__(self, attributes: AttributeJudge, referee: Referee) -> None:
        self.attributes, self.referee = attributes.eval(), referee.eval()

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> "Judges":
        """Load the shipped judges, or those of another folder."""
        return cls(
            load_weights(AttributeJudge(), folder / "attributes.safetensors"),
            load_weights(Referee(), folder / "referee.safetensors"),
        )

    @torch.no_grad()
    def read(self, images: Tensor, scenes: Scenes) -> Reading:
        """Read what stands at the places of the scenes' objects."""
        slots = scenes.x.shape[1]
        where = (t.flatten() for t in (scenes.x, scenes.y, scenes.radius))
        crops = crop(images.repeat_interleave(slots, 0), *where)
        answers = [torch.cat(parts) for parts in zip(*map(self.attributes, crops.split(256)), strict=True)]
        colour, noun, texture = (a.argmax(1).view(len(images), slots) for a in answers)
        return Reading(colour, noun, texture)

    @torch.no_grad()
    def distance_map(self, first: Tensor, second: Tensor) -> Tensor:
        """Return (B, S, S): how far apart two pictures are at each pixel, in the three layers of the referee."""
        total = torch.zeros(len(first), *first.shape[-2:])
        for a, b in zip(self._soft_features(first), self._soft_features(second), strict=True):
            apart = (a - b).square().mean(1, keepdim=True).sqrt()
            total += F.interpolate(apart, first.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        return total / 3

    def distance(self, first: Tensor, second: Tensor, masks: Tensor) -> Tensor:
        """Return (B,): the mean distance inside the masks (B, S, S) bool; 0 for an empty mask."""
        inside = masks.float()
        return (self.distance_map(first, second) * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)

    def visible_change(self, first: Tensor, second: Tensor) -> Tensor:
        """Return (B,): the mean distance over the 8x8 window where two pictures differ most."""
        return F.avg_pool2d(self.distance_map(first, second)[:, None], 8, 4).flatten(1).amax(1)

    @torch.no_grad()
    def defect_map(self, images: Tensor) -> Tensor:
        """Return (B, S / 4, S / 4): how certain the referee is of some defect."""
        return 1 - torch.cat([self.referee(part).defect.softmax(1)[:, SOUND] for part in images.split(64)])

    @torch.no_grad()
    def blur(self, images: Tensor) -> Tensor:
        """Return (B,): how much of the picture the referee calls blurred; lower is sharper."""
        code = DEFECT_KINDS.index("blur")
        found = [self.referee(part).defect.softmax(1)[:, code].mean((1, 2)) for part in images.split(64)]
        return torch.cat(found)

    @torch.no_grad()
    def area_of(self, images: Tensor, noun: Tensor, colour: Tensor) -> Tensor:
        """Return (B,): the share of each picture that shows the asked things (B,) in the asked colours (B,)."""
        seen = [self.referee(part) for part in images.split(64)]
        nouns, colours = (torch.cat([getattr(one, what).argmax(1) for one in seen]) for what in ("noun", "colour"))
        return ((nouns == noun[:, None, None]) & (colours == colour[:, None, None])).float().mean((1, 2))

    def _soft_features(self, images: Tensor) -> list[Tensor]:
        parts = [self.referee.features(part) for part in images.split(64)]
        layers = [torch.cat(layer) for layer in zip(*parts, strict=True)]
        return [F.avg_pool2d(F.pad(layer, [1] * 4, mode="replicate"), 3, 1) for layer in layers]


def load_weights(model: Net, path: Path) -> Net:
    """Fill a judge with the weights of a file."""
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsCorrupt(
            f"'{path}' does not hold this judge's weights: `python -m lab train judges` makes them."
        ) from error
    return model


PRESENT = 0.012
"""Share of the picture in the asked thing and colour from which it counts as standing somewhere."""


def shifted(images: Tensor) -> Tensor:
    """Move pictures (B, 3, S, S) by one pixel down and right; the first row and column repeat."""
    return torch.nn.functional.pad(images, [1, 0, 1, 0], mode="replicate")[..., :-1, :-1]


def as_jpeg(images: Tensor, quality: int = 95) -> Tensor:
    """Write pictures (B, 3, S, S) in 0..1 as JPEG and read them again."""
    return tensor_of([through(to_picture(image), "JPEG", quality=quality) for image in images])


@dataclass(frozen=True)
class TieBands:
    """The 95th percentile of each judgement's change under a shift by one pixel and under JPEG 95."""

    distance: float
    """Of the distance of a damaged picture to its clean scene inside the defect."""
    visible: float
    """Of `Judges.visible_change` of a clean picture."""


def tie_bands(judges: Judges, count: int = 192) -> TieBands:
    """Measure the tie bands on scenes that nothing else uses."""
    generator = source(CHECK, 1)
    scenes = sample(count, generator)
    clean = render(scenes)
    spoilt = damage(clean.images, clean.objects.any(1), generator, DEFECT_KINDS)
    before = judges.distance(spoilt.images, clean.images, spoilt.masks)
    moved, seen = [], []
    for same in (shifted, as_jpeg):
        moved.append(judges.distance(same(spoilt.images), clean.images, spoilt.masks) - before)
        seen.append(judges.visible_change(same(clean.images), clean.images))
    return TieBands(noise_band(torch.cat(moved).numpy()), noise_band(torch.cat(seen).numpy()))


@torch.no_grad()
def check_judges(judges: Judges, count: int = 500) -> dict[str, float]:
    """Return the judges' own accuracy by name, each over `count` scenes of both kinds of combinations."""
    generator = source(CHECK, 2)
    found: dict[str, float] = {}
    for combinations in ("seen", "held_out"):
        scenes = sample(count, generator, combinations)
        right = judges.read(render(scenes).images, scenes).right(scenes)[scenes.present]
        for name, column in zip(("colour", "noun", "texture"), right.float().mean(0).tolist(), strict=True):
            found[name if combinations == "seen" else f"{name}_held_out"] = column
    scenes = sample(count, generator)
    clean = render(scenes)
    spoilt = damage(clean.images, clean.objects.any(1), generator, DEFECT_KINDS)
    # How often a damaged picture's worst cells look worse than a clean one's.
    maps = (judges.defect_map(images).flatten(1) for images in (spoilt.images, clean.images))
    found["defect_auc"] = separation_of(*(cells.topk(24, 1).values.mean(1).numpy() for cells in maps))
    first = scenes.noun[:, 0], scenes.colour[:, 0]
    found["present"] = float((judges.area_of(clean.images, *first) >= PRESENT)[scenes.present[:, 0]].float().mean())
    other = (first[1] + 4) % 8
    there = ((scenes.noun == first[0][:, None]) & (scenes.colour == other[:, None]) & scenes.present).any(1)
    found["absent"] = float((judges.area_of(clean.images, first[0], other) < PRESENT)[~there].float().mean())
    return found
