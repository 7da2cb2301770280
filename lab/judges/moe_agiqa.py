"""The tiny MoE-AGIQA: quality of a toy picture, and how true its prompt is."""

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from grefine.evaluate.correlation import srcc
from grefine.models.clip_surgery import CLIP_MEAN, CLIP_STD
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.training.loop import Budget, Record
from grefine.training.losses import norm_in_norm
from lab.fit import begun, fit, geometry, save_half
from lab.judges.measures import ContentHead, DamageHead, draw, start_at
from lab.judges.prompts import Told, captions_for, encode, tell
from lab.judges.stream import JUDGE_TEST, JUDGE_VALIDATE, Judged, judged
from lab.world.captions import describe
from lab.world.render import render
from lab.world.scene import MISALIGNMENTS, misalign, sample
from lab.world.stream import generator
from lab.world.vocabulary import build_tokenizer

OVERLOOKED = 0.1
"""A fall of the alignment below this is too small to speak in the guard."""


@dataclass(frozen=True)
class MoEAGIQASettings:
    """What makes the shipped MoE-AGIQA (lab/configs/tiny/moe_agiqa.yaml)."""

    batch: int = 32
    muon_lr: float = 0.01
    adam_lr: float = 0.002
    norm_weight: float = 0.2
    alignment_weight: float = 2.0
    phrase_weight: float = 0.5
    """Of the help at training time: from the tokens of each phrase, is it met? Its layer is thrown away."""
    damage_weight: float = 4.0
    """Of the help for the crops: where do they show damage?"""
    content_weight: float = 0.5
    """Of the help for the whole picture: what does it show where?"""
    looking: int = 24_000
    """Pictures at the beginning that teach only to look, by the help for crops and whole picture; they are cheap."""
    damaged_share: float = 0.7
    distorted_share: float = 0.03
    versions: int = 2
    files: float = 0.6
    """Share of pictures that went through a file."""
    captions: int = 2
    """Of each picture: its own, one or more with a wrong word, and that of another scene (of two, these in turn)."""
    crops_stand: bool = False
    """Leave the tower that sees the crops as it is: only the readers of picture and prompt, and the head, learn."""
    seed: int = 13


def build(vocabulary: int) -> MoEAGIQA:
    model = MoEAGIQA(vocabulary=vocabulary, **geometry("moe_agiqa"))
    for expert in model.head.experts:
        # Three of four experts count, with three quarters of the weight.
        start_at(expert[-1], 0.8, share=1.0)  # pyright: ignore[reportIndexIssue, reportArgumentType]
    return model


def views(images: Tensor) -> Tensor:
    """Return the CLIP-standardised view of images `(B, 3, 64, 64)` in 0..1 that need no resizing."""
    mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


def rate(
    model: MoEAGIQA, images: Tensor, ids: Tensor, mask: Tensor, crops_stand: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rate every image under each of its P prompts, encoding it once; in bfloat16 where the tower of crops stands."""
    batch, prompts = ids.shape[:2]
    with torch.autocast(images.device.type, torch.bfloat16, enabled=crops_stand):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not crops_stand):
            features = model.crop_features(images)
        seen = model.vision(views(images)).last_hidden_state
        text = model.read_prompt(seen.repeat_interleave(prompts, 0), ids.flatten(0, 1), mask.flatten(0, 1))
    features, text = features.float(), text.float()
    scores = model.head(features.repeat_interleave(prompts, 0)[:, None], text).scores[:, 0]
    return scores.unflatten(0, (batch, prompts)), text.unflatten(0, (batch, prompts)), seen.float(), features


def train_moe_agiqa(
    out: Path, settings: MoEAGIQASettings, budget: Budget, accelerator: Accelerator
) -> dict[str, float]:
    """Train, or go on training, `out`/moe_agiqa; its tokenizer is saved inside."""
    torch.manual_seed(settings.seed)
    folder, tokenizer = out / "moe_agiqa", build_tokenizer()
    model = begun(MoEAGIQA, folder, lambda: build(len(tokenizer)))
    model.to(accelerator.device).eval()  # no dropout: every batch is new
    width, taps = model.config["width"], model.config["taps"]
    phrase = nn.Linear(width, 1).to(accelerator.device)
    damage, content = (aid.to(accelerator.device) for aid in (DamageHead(width * len(taps)), ContentHead(width)))
    record = Record.load(out / "training", "moe_agiqa")

    def look(data: Judged, seen: Tensor, features: Tensor) -> dict[str, Tensor]:
        what = content(seen[:, 1:], data)
        if settings.crops_stand:
            return {"loss": settings.content_weight * what, "content": what}
        where = damage(features, data)
        loss = settings.damage_weight * where + settings.content_weight * what
        return {"loss": loss, "damage": where, "content": what}

    def step(number: int) -> dict[str, Tensor]:
        data = draw(settings, number, accelerator.device)
        if record.samples < settings.looking:
            return look(data, model.vision(views(data.images)).last_hidden_state, model.crop_features(data.images))
        told = captions_for(data.scenes, random.Random(settings.seed * 7919 + number), max(1, settings.captions - 2))
        if settings.captions == 2:  # the own caption, and in turn one with a wrong word and one of another scene
            told = [[row[0], row[1 + (index + number) % 2]] for index, row in enumerate(told)]
        prompts = len(told[0])
        encoded = encode(tokenizer, [t for row in told for t in row], model.config["text_length"])
        ids, mask, value, known = (x.unflatten(0, (settings.batch, prompts)).to(accelerator.device) for x in encoded)
        scores, text, seen, features = rate(model, data.images, ids, mask, settings.crops_stand)
        truth = torch.tensor([[t.alignment for t in row] for row in told], device=scores.device)
        wanted = data.quality[:, None].expand(-1, prompts)
        quality, alignment = scores[..., 0], scores[..., 1]
        q = F.mse_loss(quality, wanted) + settings.norm_weight * norm_in_norm(quality[:, 0], wanted[:, 0])
        a = F.mse_loss(alignment, truth) + settings.norm_weight * norm_in_norm(alignment.flatten(), truth.flatten())
        met = F.binary_cross_entropy_with_logits(phrase(text)[..., 0][known], value[known])
        losses = look(data, seen, features)
        losses["loss"] = losses["loss"] + q + settings.alignment_weight * a + settings.phrase_weight * met
        return losses | {"quality": q, "alignment": a, "phrase": met}

    def save() -> None:
        save_half(out, moe_agiqa=model)
        tokenizer.save_pretrained(folder / "tokenizer")

    evaluate = partial(measure, model, JUDGE_VALIDATE, 96, thorough=False, tokenizer=tokenizer)
    modules, rest = [model, phrase, damage, content], {"evaluate": evaluate, "save": save, "every": 0.2}
    return fit(record, step, modules, settings, budget, accelerator, **rest)


@torch.no_grad()
def measure(
    model: MoEAGIQA, seed: int = JUDGE_TEST, count: int = 384, thorough: bool = True, tokenizer: Any = None
) -> dict[str, float]:
    """Return what the two outputs are worth on unseen scenes.

    `prompt`: alignment falls under another picture's prompt that is less true; `pair_*`: after the scene was changed
    under the same prompt; `overlooked_*`: hardly. Only if thorough: `pair_*`, `overlooked_*`, `srcc_severity`.
    """
    model.eval()
    length, tokenizer = model.config["text_length"], tokenizer or build_tokenizer()
    rng = random.Random(seed)

    def scores(images: Tensor, told: list[list[Told]]) -> Tensor:
        ids, mask, _, _ = encode(tokenizer, [t for row in told for t in row], length)
        columns = (images, *(values.view(-1, len(told[0]), length) for values in (ids, mask)))
        parts = zip(*(values.split(64) for values in columns), strict=True)
        return torch.cat([rate(model, *part)[0] for part in parts])

    data = judged(seed, 0, count, damaged_share=0.6, distorted_share=0.05)
    told = captions_for(data.scenes, rng)
    found = scores(data.images, told)
    truth = torch.tensor([[t.alignment for t in row] for row in told])
    swapped = truth[:, 2] < truth[:, 0]
    result = {
        "srcc_quality": srcc(found[:, 0, 0], data.quality),
        "srcc_alignment": srcc(found[..., 1].flatten(), truth.flatten()),
        "prompt": float((found[:, 2, 1] < found[:, 0, 1])[swapped].float().mean()),
    }
    if not thorough:
        return result
    local = judged(seed, 1, count, damaged_share=0.8, distorted_share=0.0)
    own = [row[:1] for row in captions_for(local.scenes, rng)]
    result["srcc_severity"] = srcc(scores(local.images, own)[:, 0, 0], -local.severity)
    count //= 2
    for number, kind in enumerate(MISALIGNMENTS):
        if kind in ("relation", "count"):
            continue  # neither is part of the truth that the network is taught
        source = generator(seed, 10 + number)
        scenes = sample(count, source)
        changed, _, possible = misalign(scenes, kind, source)
        captions = [describe(scenes, i, rng) for i in range(count)]
        before = [[tell(scenes, i, c)] for i, c in enumerate(captions)]
        after = [[tell(changed, i, c)] for i, c in enumerate(captions)]
        falls = torch.tensor([a[0].alignment < b[0].alignment for a, b in zip(after, before, strict=True)]) & possible
        high, low = scores(render(scenes).images, before)[:, 0, 1], scores(render(changed).images, after)[:, 0, 1]
        result[f"pair_{kind}"] = float((low < high)[falls].float().mean())
        result[f"overlooked_{kind}"] = float((high - low < OVERLOOKED)[falls].float().mean())
    return result
