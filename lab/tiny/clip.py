"""The CLIP of both maps: contrastive, with the toy world's truth about every phrase and defect on the dense path.

Phrases answer against the empty text (Eq. 5), quality against learned good and bad prompts (Eq. 3).
"""

import math
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from grefine.indicators.evidence import separation_of
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.training.loop import Budget, Record, curves
from grefine.training.maps.train import average_precision
from lab.fit import begun, fit, geometry, save_half
from lab.world.captions import Caption, Thing, coverage, describe, draw_queries, matches, near_misses
from lab.world.pictures import as_files, save_grid
from lab.world.render import render
from lab.world.scene import MISALIGNMENTS, Scenes, misalign
from lab.world.stream import TRAIN, VALIDATE, batch, generator
from lab.world.vocabulary import CONTEXT, DEFECT_KINDS, build_tokenizer

# Which factor of T_p each defect lowers beside "overall": technical, rational or natural.
FACTOR_OF = {"blur": 1, "noise": 1, "jpeg": 1, "banding": 1, "smear": 1, "warp": 2, "cast": 3}
TO_FIND = ("blur", "blur", "noise", "jpeg", "jpeg", "warp", "warp", "warp", "cast", "banding")
"""Kinds of damage as often as they are hard to see."""


@dataclass(frozen=True)
class ClipSettings:
    """What makes the shipped CLIP and its quality prompts (lab/configs/tiny/clip.yaml)."""

    n_ctx: int = 8
    batch: int = 32
    """Scenes per step; each is seen clean, damaged and misaligned."""
    queries: int = 96
    muon_lr: float = 0.01
    adam_lr: float = 0.002
    contrastive: float = 0.3
    prompt: float = 0.5
    dense: float = 4.0
    peak: float = 1.0
    quality: float = 12.0
    quality_image: float = 3.0
    files: float = 0.6
    """Share of all pictures that went through a file, good ones and bad ones alike."""
    seed: int = 2


def build(tokenizer: Any) -> ClipSurgery:
    """Make an untrained CLIP for 64-pixel images and the toy world's words."""
    words = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "context_length": CONTEXT}
    return ClipSurgery(**words, **geometry("clip"))


@dataclass(frozen=True)
class Step:
    """One training batch: B scenes clean, damaged and misaligned, stacked to 3B images in this order."""

    images: Tensor
    """(3B, 3, S, S)."""
    scenes: Scenes
    """3B scenes; the damaged ones equal the clean ones."""
    cells: Tensor
    """(3B, K + 2, g, g) coverage by objects, ground and sky."""
    damage: Tensor
    """(3B, g, g) share of each cell that is damaged."""
    kind: Tensor
    """(3B,) long index into DEFECT_KINDS, -1 without a defect."""
    severity: Tensor
    captions: list[Caption]
    """2B: of the clean and of the misaligned scenes."""
    changed: Tensor
    """(B,) bool: the misaligned scene really differs."""


def draw_step(seed: int, number: int, count: int, grid: int, device: torch.device, files: float = 0.0) -> Step:
    """Render training batch `number`; a share of its pictures went through files."""
    data = batch(seed, number, count, device=device, kinds=TO_FIND)
    source, rng = generator(seed + 1, number), random.Random(f"{seed}-{number}")
    kinds = [
        MISALIGNMENTS[i] for i in torch.multinomial(torch.tensor([3.0, 3, 4, 1, 1, 1]), 4, True, generator=source)
    ]
    parts, changed = [], []
    for kind, rows in zip(kinds, torch.arange(count).chunk(4), strict=False):
        scenes, _, possible = misalign(data.scenes[rows], kind, source)
        parts.append(scenes)
        changed.append(possible)
    wrong = Scenes.cat(parts)
    altered = render(wrong, data.clean.images.shape[-1], device)
    none, whole = torch.zeros(count, device=device), torch.zeros(count, grid, grid, device=device)
    spoilt = F.adaptive_avg_pool2d(data.damaged.masks[:, None].float(), grid)[:, 0]
    captions = [describe(data.scenes, i, rng) for i in range(count)]
    captions += [describe(wrong, i, rng) if wrong.present[i].any() else Caption("nothing", ()) for i in range(count)]
    return Step(
        images=as_files(torch.cat([data.clean.images, data.damaged.images, altered.images]), source, files),
        scenes=Scenes.cat([data.scenes, data.scenes, wrong]),
        cells=torch.cat([coverage(data.clean, grid), coverage(data.clean, grid), coverage(altered, grid)]),
        damage=torch.cat([whole, spoilt, whole]),
        kind=torch.cat([none - 1, data.damaged.kinds, none - 1]).long(),
        severity=torch.cat([none, data.damaged.severity, none]),
        captions=captions,
        changed=torch.cat(changed),
    )


def losses(
    clip: ClipSurgery, prompts: PQPrompts, tokenizer: Any, data: Step, things: list[Thing], s: ClipSettings
) -> dict[str, Tensor]:
    """Return all losses of one batch by name; "loss" is their weighted sum."""
    device = data.images.device
    features = F.normalize(clip.encode_image(clip.preprocess(data.images)), dim=-1)
    texts = [thing.text for thing in things] + [caption.text for caption in data.captions] + [""]
    ids = torch.tensor(tokenizer(texts, padding=True)["input_ids"], device=device)
    encoded = F.normalize(clip.encode_text(ids), dim=-1)
    asked, captions, empty = encoded[: len(things)], encoded[len(things) : -1], encoded[-1]
    scale = clip.logit_scale.exp()

    logits = scale * (features @ (asked - empty).T)
    truth, nearly = matches(data.scenes, things).to(device), near_misses(data.scenes, things).to(device)
    dense, peak = phrase_losses(logits[:, 1:], truth, nearly & ~truth, data.cells)

    count = len(data.changed)
    images = torch.cat([features[:count, 0], features[2 * count :, 0]])
    table = scale * images @ captions.T
    keep = torch.cat([torch.ones(count, dtype=torch.bool), data.changed]).to(device)
    contrastive = contrastive_loss(table[keep][:, keep])
    paired = scale * (features[:, 0] @ (captions[:count] - empty).T)
    prompt = prompt_loss(paired, data.changed.to(device))

    quality_logits = torch.einsum("bnd,fsd->bnfs", features, prompts(clip))
    quality_logits = quality_logits[..., 0] - quality_logits[..., 1]
    quality, quality_image = quality_losses(quality_logits, data)
    total = s.dense * dense + s.peak * peak + s.contrastive * contrastive + s.prompt * prompt
    total = total + s.quality * quality + s.quality_image * quality_image
    parts = {"dense": dense, "peak": peak, "contrastive": contrastive, "prompt": prompt}
    return {"loss": total} | parts | {"quality": quality, "quality_image": quality_image}


def phrase_losses(logits: Tensor, truth: Tensor, nearly: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cell-wise loss of all phrases on all images (B, N, Q), and the loss of their peaks.

    `truth` and `nearly` (B, K + 2, Q) say which things a phrase means and would mean but for one attribute.
    """

    def covered(which: Tensor) -> Tensor:
        return torch.einsum("bkq,bkn->bnq", which.float(), cells.flatten(2)).clamp(0, 1)

    target = covered(truth)
    error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # Few phrases are in a given image, and they cover few of its cells; near misses are fewer still.
    here = target * 6 + (1 - target) * (1 + 2 * truth.any(1)[:, None].float() + 6 * covered(nearly))
    dense = (error * here).sum() / here.sum()
    present, close = truth.any(1).float(), nearly.any(1).float()
    top = torch.logsumexp(4 * logits, 1) / 4 - math.log(8) / 4
    weight = 1 + 3 * torch.maximum(present, close)
    peak = (F.binary_cross_entropy_with_logits(top, present, reduction="none") * weight).sum() / weight.sum()
    return dense, peak


def contrastive_loss(table: Tensor) -> Tensor:
    """Return CLIP's symmetric loss of a square table of image-text logits."""
    target = torch.arange(len(table), device=table.device)
    return (F.cross_entropy(table, target) + F.cross_entropy(table.T, target)) / 2


def prompt_loss(paired: Tensor, changed: Tensor) -> Tensor:
    """Teach Eq. 8's a_0 (3B, B): a caption fits its clean and its damaged image, not the misaligned nor another's."""
    count = paired.shape[1]
    own = [paired[i * count : (i + 1) * count].diagonal() for i in range(3)]
    other = paired[:count].roll(1, 1).diagonal()
    fits = F.softplus(-own[0]).mean() + F.softplus(-own[1]).mean()
    wrong = (F.softplus(own[2]) * changed).sum() / changed.sum().clamp(min=1)
    return (fits + wrong + F.softplus(other).mean()) / 4


def quality_losses(logits: Tensor, data: Step) -> tuple[Tensor, Tensor]:
    """Return the cell-wise and the image-wise loss of the four quality factors; logits (B, 1 + N, 4)."""
    factor_of = torch.tensor([FACTOR_OF[kind] for kind in DEFECT_KINDS], device=logits.device)
    concerns = torch.zeros(len(logits), 4, device=logits.device)
    bad = data.kind >= 0
    concerns[bad, 0] = 1
    concerns[bad, factor_of[data.kind[bad]]] = 1
    target = 1 - data.damage.flatten(1)[..., None] * concerns[:, None]
    error = F.binary_cross_entropy_with_logits(logits[:, 1:], target, reduction="none")
    weight = 1 + 5 * (1 - target)
    quality = (error * weight).sum() / weight.sum()
    whole = 1 - concerns * (1 - 0.5 * torch.exp(-14 * data.severity))[:, None]
    return quality, F.binary_cross_entropy_with_logits(logits[:, 0], whole)


def train_clip(out: Path, settings: ClipSettings, budget: Budget, accelerator: Accelerator) -> dict[str, float]:
    """Train, or go on training, `out`/clip and `out`/pq_prompts."""
    torch.manual_seed(settings.seed)
    tokenizer = build_tokenizer()
    clip = begun(ClipSurgery, out / "clip", lambda: build(tokenizer))
    prompts = begun(PQPrompts, out / "pq_prompts", lambda: PQPrompts.from_clip(clip, tokenizer, settings.n_ctx))
    clip.to(accelerator.device, torch.float32).train()
    prompts.to(accelerator.device, torch.float32).train()
    record = Record.load(out / "training", "clip")

    def step(number: int) -> dict[str, Tensor]:
        data = draw_step(
            TRAIN + settings.seed, number, settings.batch, clip.grid[0], accelerator.device, settings.files
        )
        things = draw_queries(data.scenes, settings.queries, random.Random(f"{settings.seed}-{number}"))
        return losses(clip, prompts, tokenizer, data, things, settings)

    def save() -> None:
        save_half(out, clip=clip, pq_prompts=prompts)
        tokenizer.save_pretrained(out / "clip_tokenizer")

    evaluate = partial(measure, clip, prompts, tokenizer, VALIDATE, accelerator.device)
    look = {"evaluate": evaluate, "save": save, "batch": 3 * settings.batch}
    metrics = fit(record, step, [clip, prompts], settings, budget, accelerator, **look)
    curves(record, out / "training" / "clip.png")
    clip_samples(clip, prompts, tokenizer, out / "training" / "clip_samples.png")
    return metrics


@torch.no_grad()
def measure(
    clip: ClipSurgery, prompts: PQPrompts, tokenizer: Any, seed: int, device: torch.device, count: int = 96
) -> dict[str, float]:
    """Measure phrase maps, misalignment by peaks, and quality maps on `count` scenes of stream `seed`."""
    clip.eval()
    data = batch(seed, 11, count, device=device)
    rng, source = random.Random(seed), generator(seed, 12)
    captions = [describe(data.scenes, i, rng) for i in range(count)]
    found: dict[str, float] = {}
    clean = _tokens(clip, data.clean.images)
    first = [caption.objects[0].text for caption in captions]
    maps = _maps(clip, tokenizer, clean, first)
    truth = data.clean.objects[:, 0]
    found["phrase_ap"] = average_precision(_pixels(maps, clip).flatten(), truth.cpu().numpy().flatten())
    best = _pixels(maps, clip).reshape(count, -1).argmax(1)
    found["pointing"] = float(truth.flatten(1).cpu().numpy()[np.arange(count), best].mean())
    for kind in ("colour", "missing", "object", "texture"):
        wrong, index, possible = misalign(data.scenes, kind, source)
        things = [caption.thing(int(slot)) for caption, slot in zip(captions, index, strict=True)]
        use = possible & torch.tensor([kind != "texture" or t.texture >= 0 for t in things])
        tokens = _tokens(clip, render(wrong, 64, device).images)
        texts = [t.text for t in things]
        good, bad = (_maps(clip, tokenizer, t, texts).amax(1).cpu()[use].numpy() for t in (clean, tokens))
        found[f"auc_{kind}"] = separation_of(good, bad)
    T = prompts(clip)[0]
    damaged = _tokens(clip, data.damaged.images)
    quality = [(t @ (T[0] - T[1])) for t in (clean, damaged)]
    found["quality_ap"] = average_precision(
        -_pixels(quality[1][:, 1:], clip).flatten(), data.damaged.masks.cpu().numpy().flatten()
    )
    found["quality_auc"] = separation_of(quality[0][:, 0].cpu().numpy(), quality[1][:, 0].cpu().numpy())
    clip.train()
    return found


@torch.no_grad()
def clip_samples(clip: ClipSurgery, prompts: PQPrompts, tokenizer: Any, path: Path) -> None:
    """Draw scenes, the map of each one's first phrase, the damaged scenes, and their quality maps."""
    data, rng = batch(VALIDATE, 1, 12, device=clip.device), random.Random(VALIDATE)
    texts = [describe(data.scenes, i, rng).objects[0].text for i in range(12)]
    clean, damaged = (_tokens(clip, images) for images in (data.clean.images, data.damaged.images))
    good, bad = prompts(clip)[0]
    found = _maps(clip, tokenizer, clean, texts), damaged[:, 1:] @ (good - bad)
    maps = (torch.from_numpy(_pixels(torch.sigmoid(cells), clip))[:, None].expand(-1, 3, -1, -1) for cells in found)
    phrase, quality = maps
    save_grid([data.clean.images.cpu(), phrase, data.damaged.images.cpu(), quality], path)


def _tokens(clip: ClipSurgery, images: Tensor) -> Tensor:
    parts = [clip.encode_image(clip.preprocess(part)) for part in images.split(32)]
    return F.normalize(torch.cat(parts), dim=-1)


def _maps(clip: ClipSurgery, tokenizer: Any, tokens: Tensor, texts: list[str]) -> Tensor:
    """(B, N) logits of each image's own text."""
    ids = torch.tensor(tokenizer([*texts, ""], padding=True)["input_ids"], device=tokens.device)
    encoded = F.normalize(clip.encode_text(ids), dim=-1)
    return clip.logit_scale.exp() * torch.einsum("bnd,bd->bn", tokens[:, 1:], encoded[:-1] - encoded[-1])


def _pixels(cells: Tensor, clip: ClipSurgery) -> np.ndarray:
    rows, columns = clip.grid
    grid = cells.view(-1, 1, rows, columns)
    return F.interpolate(grid, clip.side, mode="bicubic", align_corners=False)[:, 0].cpu().numpy()
