"""What the refiner will ask of its UNet: fill, edit, restore, polish, as pictures, masks, prompts and strengths."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lab.world.captions import describe, led
from lab.world.defects import damage, with_unknown_damage
from lab.world.pictures import as_files
from lab.world.render import render
from lab.world.scene import Misalignment, Scenes, misalign, sample
from lab.world.stream import generator

CELL = 4
"""Pixels per latent cell: every mask is snapped to whole cells, so that nothing hidden leaks through."""
SHARES = {"fill": 0.06, "edit": 0.3, "restore": 0.58, "polish": 0.06}
TO_RESTORE = ("blur", "blur", "noise", "jpeg", "jpeg", "warp", "warp", "warp", "warp", "cast", "banding")
"""Kinds of damage as often as they are hard to mend: a warped star must be drawn anew, noise only smoothed."""
TO_EDIT: tuple[Misalignment, ...] = ("object", "colour", "texture", "missing", "missing")
"""What is wrong, as often as it is hard to put right: a missing thing has neither shape nor place."""
MAP_CELLS = 8
"""Cells of the CLIP's grid along a side: masks come from maps of this grain."""


@dataclass(frozen=True)
class Task:
    """B things to do to images."""

    clean: Tensor
    """(B, 3, S, S) 0..1, what should come out."""
    source: Tensor
    """(B, 3, S, S) 0..1, what the sampler starts from."""
    mask: Tensor
    """(B, S, S) bool, True = repaint; whole cells."""
    objects: Tensor
    """(B, S, S) bool, objects of the clean scene."""
    strength: Tensor
    """(B,) share of the schedule that is run, 0..1."""
    shown: Tensor
    """(B,) bool, True = the network sees what lies under the mask, to restore it or to change only what is wrong."""
    prompts: list[str]
    time_ids: Tensor
    """(B, 6) SDXL's size and crop conditioning."""


def draw_task(
    seed: int,
    number: int,
    count: int,
    device: torch.device | str = "cpu",
    kinds: Sequence[str] = tuple(SHARES),
    files: float = 0.0,
) -> Task:
    """Draw batch `number` of the stream `seed`, mixed from `kinds`; a share of the sources went through files."""
    source = generator(seed, number)
    rng = random.Random(f"{seed}-{number}")
    weights = torch.tensor([SHARES[kind] for kind in kinds])
    drawn = torch.multinomial(weights, count, True, generator=source)
    scenes = sample(count, source)
    parts = {}
    for index, kind in enumerate(kinds):
        rows = (drawn == index).nonzero()[:, 0]
        if len(rows):
            parts[kind] = _DRAW[kind](scenes[rows], source, rng, device)
    for kind in [k for k in parts if k != "fill"] if files else ():  # what is filled is blank, which no file may blur
        parts[kind] = _saved(parts[kind], source, files)
    return _joined(list(parts.values()))


def _saved(task: Task, source: torch.Generator, share: float) -> Task:
    """Let a file have spoilt the source a little; what lies outside the mask stays so, and is the target there."""
    saved = as_files(task.source, source, share)
    return replace(task, source=saved, clean=torch.where(task.mask[:, None], task.clean, saved))


def _joined(parts: list[Task]) -> Task:
    fields = ("clean", "source", "mask", "objects", "strength", "shown", "time_ids")
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in fields}
    return Task(**joined, prompts=[prompt for part in parts for prompt in part.prompts])


def _fill(scenes: Scenes, source: torch.Generator, rng: random.Random, device: torch.device | str) -> Task:
    """Hide a place (an object's, or any) and ask for what was there; the start knows nothing of it."""
    clean = render(scenes, 64, device)
    slot = torch.multinomial(scenes.present.float(), 1, generator=source)[:, 0]
    target = clean.objects[torch.arange(len(scenes)), slot]
    blobs = _blob(len(scenes), source).to(device)
    style = torch.rand(len(scenes), generator=source).to(device)[:, None, None]
    mask = torch.where(style < 0.35, _grow(target, source), torch.where(style < 0.7, _box_of(target) | target, blobs))
    mask = torch.where(style > 0.95, torch.ones_like(mask), mask)
    mask = _snap(mask)
    empty = torch.full_like(clean.images, 0.5)
    source_image = torch.where(mask[:, None], empty, clean.images)
    hidden = (mask & target).sum((1, 2)) > 0.5 * target.sum((1, 2))
    prompts = [_prompt(scenes, i, int(slot[i]) if hidden[i] else None, rng) for i in range(len(scenes))]
    strength = 0.85 + 0.15 * torch.rand(len(scenes), generator=source)
    return _task(clean.images, source_image, mask, clean.objects.any(1), strength, prompts, rng)


def _edit(scenes: Scenes, source: torch.Generator, rng: random.Random, device: torch.device | str) -> Task:
    """Turn a wrong object into the asked one: the mask has the wrong one's shape, the prompt names the right one."""
    parts, slots = [], []
    for kind, rows in zip(TO_EDIT, torch.arange(len(scenes)).tensor_split(len(TO_EDIT)), strict=True):
        if not len(rows):
            continue
        wrong, slot, _ = misalign(scenes[rows], kind, source)
        parts.append(wrong)
        slots.append(slot)
    wrong, slot = Scenes.cat(parts), torch.cat(slots)
    clean, before = render(scenes, 64, device), render(wrong, 64, device)
    rows = torch.arange(len(scenes))
    both = clean.objects[rows, slot] | before.objects[rows, slot]
    gone = ~wrong.present[rows, slot].to(device)[:, None, None]
    seen = before.objects[rows, slot] | (clean.objects[rows, slot] & gone)
    style = torch.rand(len(scenes), generator=source).to(device)[:, None, None]
    wide = torch.where(style < 0.8, _grow(both, source), _box_of(seen))
    mask = torch.where(style < 0.65, _grow(seen, source), wide) | seen
    mask = torch.where(style < 0.45, _as_mapped(seen, source), mask)
    others = torch.arange(clean.objects.shape[1]) != slot[:, None]
    others = (clean.objects & others.to(device)[:, :, None, None]).any(1)
    mask = torch.where(gone & (style < 0.75), _place_for(clean.objects[rows, slot], others, source), mask)
    mask = _snap(mask)
    prompts = [_prompt(scenes, i, int(slot[i]), rng) for i in range(len(scenes))]
    strength = 0.6 + 0.4 * torch.rand(len(scenes), generator=source)
    # What lies outside the mask stays as it is, so it is the target there.
    target = torch.where(mask[:, None], clean.images, before.images)
    shown = torch.rand(len(scenes), generator=source) < 0.75
    return _task(target, before.images, mask, clean.objects.any(1), strength, prompts, rng, shown)


def _restore(scenes: Scenes, source: torch.Generator, rng: random.Random, device: torch.device | str) -> Task:
    """Repair a damaged place, starting from what is left of it."""
    clean = render(scenes, 64, device)
    damaged = with_unknown_damage(damage(clean.images, clean.objects.any(1), source, TO_RESTORE), source)
    mapped = (torch.rand(len(scenes), generator=source) < 0.4).to(device)[:, None, None]
    mask = torch.where(mapped, _as_mapped(damaged.masks, source), _grow(damaged.masks, source))
    mask = _snap(_misjudged(mask, source))
    # The refiner runs what it only restores at low strength; the rest is for those who ask for more.
    often = torch.rand(len(scenes), generator=source) < 0.75
    width = torch.where(often, torch.tensor(0.25), torch.tensor(0.8))
    strength = 0.1 + width * torch.rand(len(scenes), generator=source)
    cover = (clean.objects & mask[:, None]).flatten(2).sum(2).cpu() * scenes.present
    slot = cover.argmax(1)
    named = [int(k) if cover[i, k] > 20 else None for i, k in enumerate(slot)]
    prompts = [_prompt(scenes, i, k, rng) for i, k in enumerate(named)]
    target = torch.where(mask[:, None], clean.images, damaged.images)
    shown = torch.rand(len(scenes), generator=source) < 0.92
    return _task(target, damaged.images, mask, clean.objects.any(1), strength, prompts, rng, shown)


def _polish(scenes: Scenes, source: torch.Generator, rng: random.Random, device: torch.device | str) -> Task:
    """Stage 2: the whole image at low strength, clean or slightly off."""
    clean = render(scenes, 64, device)
    damaged = damage(clean.images, clean.objects.any(1), source).images
    noise = torch.randn(clean.images.shape, generator=source).to(device)
    soft = F.avg_pool2d(F.pad(clean.images, [1] * 4, mode="replicate"), 3, 1)
    pick = torch.rand(len(scenes), generator=source).to(device)[:, None, None, None]
    start = torch.where(pick < 0.4, clean.images, torch.where(pick < 0.6, soft, clean.images + 0.03 * noise))
    start = torch.where(pick > 0.8, damaged, start).clamp(0, 1)
    mask = torch.ones_like(clean.objects[:, 0])
    strength = 0.05 + 0.3 * torch.rand(len(scenes), generator=source)
    prompts = [_prompt(scenes, i, None, rng) for i in range(len(scenes))]
    shown = torch.rand(len(scenes), generator=source) < 0.85
    return _task(clean.images, start, mask, clean.objects.any(1), strength, prompts, rng, shown)


_DRAW = {"fill": _fill, "edit": _edit, "restore": _restore, "polish": _polish}


def _task(
    clean: Tensor,
    start: Tensor,
    mask: Tensor,
    objects: Tensor,
    strength: Tensor,
    prompts: list[str],
    rng: random.Random,
    shown: Tensor | None = None,
) -> Task:
    sizes = torch.tensor([_sizes(rng) for _ in prompts], dtype=torch.float32)
    hidden = torch.zeros(len(prompts), dtype=torch.bool)
    return Task(clean, start, mask, objects, strength, hidden if shown is None else shown, prompts, sizes)


def _sizes(rng: random.Random) -> list[int]:
    """SDXL tells its UNet the original size, the crop's corner and the target size; here they mean nothing."""
    if rng.random() < 0.6:
        return [64, 64, 0, 0, 64, 64]
    side = rng.choice((64, 128, 256, 512))
    return [side, side, rng.randrange(0, side, 16), rng.randrange(0, side, 16), 64, 64]


def _prompt(scenes: Scenes, index: int, slot: int | None, rng: random.Random) -> str:
    """Write the prompt as the plan writes it: the phrase of the place first, then the caption; or the caption."""
    caption, present = describe(scenes, index, rng), scenes.present[index].nonzero()[:, 0].tolist()
    if slot is not None and slot in present and rng.random() < 0.75:
        shown = {"noun": int(scenes.noun[index, slot]), "colour": int(scenes.colour[index, slot])}
        thing = replace(caption.objects[present.index(slot)], **shown)
        return f"{led(thing, rng, 0.3).text} , {caption.text}"
    return caption.text


def _grow(mask: Tensor, source: torch.Generator, least: int = 0) -> Tensor:
    """Dilate every mask by `least` to 5 pixels."""
    amount = torch.randint(least, 6, (len(mask),), generator=source).to(mask.device)
    grown = mask[:, None].float()
    for step in range(1, 6):
        grown = torch.where((amount >= step)[:, None, None, None], F.max_pool2d(grown, 3, 1, 1), grown)
    return grown[:, 0] > 0.5


def _as_mapped(mask: Tensor, source: torch.Generator) -> Tensor:
    """Redraw a mask as a map of cells shows it: coarse, cut somewhere below its peak, then grown by 2 to 5 pixels."""
    cells = F.adaptive_avg_pool2d(mask[:, None].float(), MAP_CELLS)
    smooth = F.interpolate(cells, size=mask.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    share = 0.25 + 0.4 * torch.rand(len(mask), 1, 1, generator=source).to(mask.device)
    drawn = (smooth > share * smooth.amax((1, 2), keepdim=True)) & (smooth > 0)
    return _grow(drawn, source, least=2)


def _place_for(thing: Tensor, others: Tensor, source: torch.Generator) -> Tensor:
    """Return the round place that the plan gives a missing thing: well larger than the thing, without the others."""
    count, side = len(thing), thing.shape[-1]
    axis = ((torch.arange(side) + 0.5) / side).to(thing.device)
    weight = thing.float() / thing.sum((1, 2), keepdim=True).clamp(min=1)
    x, y = (weight.sum(1) * axis).sum(1)[:, None, None], (weight.sum(2) * axis).sum(1)[:, None, None]
    reach = (torch.hypot(axis[None, None] - x, axis[None, :, None] - y) * thing).amax((1, 2), keepdim=True)
    size, turn, off = (torch.rand(count, 1, 1, generator=source).to(thing.device) for _ in range(3))
    radius = torch.maximum(0.24 + 0.12 * size, 1.1 * reach)
    turn, off = 6.2832 * turn, 0.6 * off * (radius - reach)
    disc = torch.hypot(axis[None, None] - x - off * turn.cos(), axis[None, :, None] - y - off * turn.sin()) < radius
    return (disc & ~_grow(others, source)) | thing


def _misjudged(mask: Tensor, source: torch.Generator) -> Tensor:
    """Spoil half of the masks as a map does: a good place taken in, a part of the bad one left out."""
    count = len(mask)
    style = torch.rand(count, generator=source).to(mask.device)[:, None, None]
    extra, hole = _blob(count, source).to(mask.device), _blob(count, source).to(mask.device)
    spoiled = torch.where(style < 0.25, mask | extra, torch.where(style < 0.4, mask & ~hole, mask))
    spoiled = torch.where((style >= 0.4) & (style < 0.5), (mask & ~hole) | extra, spoiled)
    return torch.where(spoiled.any((1, 2), keepdim=True), spoiled, mask)


def _box_of(mask: Tensor) -> Tensor:
    """Fill the bounding box of every mask."""
    rows, columns = mask.any(2), mask.any(1)

    def span(flags: Tensor) -> Tensor:
        return (flags.cumsum(1) > 0) & (flags.flip(1).cumsum(1).flip(1) > 0)

    return span(rows)[:, :, None] & span(columns)[:, None, :]


def _blob(count: int, source: torch.Generator) -> Tensor:
    """(B, 64, 64) bool discs and boxes anywhere."""
    axis = (torch.arange(64) + 0.5) / 64
    x, y = torch.rand(count, 1, 1, generator=source), torch.rand(count, 1, 1, generator=source)
    r = 0.10 + 0.22 * torch.rand(count, 1, 1, generator=source)
    dx, dy = (axis[None, None, :] - x).abs(), (axis[None, :, None] - y).abs()
    square = torch.rand(count, 1, 1, generator=source) < 0.4
    return torch.where(square, torch.maximum(dx, dy) < r, dx * dx + dy * dy < r * r)


def _snap(mask: Tensor) -> Tensor:
    """Grow a mask to whole latent cells."""
    cells = F.max_pool2d(mask[:, None].float(), CELL)
    return F.interpolate(cells, scale_factor=CELL, mode="nearest")[:, 0] > 0.5
