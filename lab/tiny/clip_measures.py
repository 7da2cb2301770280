"""How good the maps are on held-out scenes: the same quantities as the benchmark's map rows, on fewer scenes."""

import random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grefine.indicators.evidence import separation_of
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.pq_prompts import PQPrompts
from grefine.training.maps.train import average_precision
from lab.tiny.stream import batch, generator
from lab.world.captions import describe
from lab.world.render import render
from lab.world.scene import misalign


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
