"""Between tensors and pictures: what a node is given is checked here, and what it gives back is made here."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from grefine.errors import ImageError, PromptError
from grefine.indicators.draw import overlay
from grefine.types import RepairPlan

SEG = namedtuple(
    "SEG",
    ["cropped_image", "cropped_mask", "confidence", "crop_region", "bbox", "label", "control_net_wrapper"],
    defaults=[None],
)
"""One place in the form of the Impact Pack, whose nodes read it by these names."""


def read_batch(given: Any, name: str) -> list[Image.Image]:
    """Return an IMAGE `(B, H, W, C)` as pictures; what is something else is refused in a sentence."""
    if isinstance(given, dict) and "samples" in given:
        raise ImageError(
            f"{name} is a latent (of a video, if it has five dimensions): decode it with VAE Decode first."
        )
    if not isinstance(given, Tensor) or given.ndim != 4 or given.shape[-1] not in (3, 4):
        what = f"of shape {tuple(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
        raise ImageError(f"{name} is {what}: an IMAGE has the shape (pictures, height, width, 3).")
    if 0 in given.shape:
        raise ImageError(f"{name} holds no picture: its shape is {tuple(given.shape)}.")
    values = given[..., :3].detach().float().cpu()
    if not torch.isfinite(values).all():
        raise ImageError(f"{name} holds values that are no numbers: the node before it failed in low precision.")
    return [Image.fromarray(one) for one in (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()]


def check_pair(before: Tensor, after: Tensor) -> None:
    """Refuse two batches that cannot be compared picture by picture."""
    if len(before) != len(after):
        raise ImageError(f"before holds {len(before)} pictures and after {len(after)}: give as many of each.")
    if before.shape[1:] != after.shape[1:]:
        (a, b), (c, d) = before.shape[1:3], after.shape[1:3]
        sizes = f"before is {b}x{a} with {before.shape[3]} channels and after {d}x{c} with {after.shape[3]}"
        raise ImageError(f"{sizes}: bring one to the form of the other first (Upscale Image).")


def check_prompt(prompt: str, looks_only: bool) -> str:
    """Return the prompt that is judged; an empty one must be meant."""
    if looks_only:
        return ""
    if not prompt.strip():
        raise PromptError(
            "prompt is empty: write what the picture should show, or set looks_only to judge looks alone."
        )
    return prompt


def read_masks(mask: Tensor | None, image: Tensor) -> list[Image.Image] | None:
    """Return a MASK `(B, H, W)`, or one for all, as pictures of the image's size; None where none is given."""
    if mask is None:
        return None
    stack = mask if mask.ndim == 3 else mask[None]
    if stack.ndim != 3 or tuple(stack.shape[1:]) != tuple(image.shape[1:3]):
        raise ImageError(
            f"mask has the shape {tuple(mask.shape)} but the picture is {image.shape[2]}x{image.shape[1]}: masks have "
            "the size of their picture (height first)."
        )
    if len(stack) not in (1, len(image)):
        raise ImageError(f"mask holds {len(stack)} masks for {len(image)} pictures: give one, or one for each.")
    whole = stack.expand(len(image), -1, -1)
    return [Image.fromarray(one) for one in ((whole > 0.5).to(torch.uint8) * 255).cpu().numpy()]


def to_masks(masks: Sequence[np.ndarray]) -> Tensor:
    """Return masks `(H, W)` as one MASK."""
    return torch.from_numpy(np.stack([mask.astype(np.float32) for mask in masks]))


def to_heat(pictures: Sequence[Image.Image], badness: Sequence[np.ndarray]) -> Tensor:
    """Return the pictures greyed under their maps, as one IMAGE."""
    drawn = [np.asarray(overlay(one, bad), dtype=np.float32) / 255 for one, bad in zip(pictures, badness, strict=True)]
    return torch.from_numpy(np.stack(drawn))


def to_segs(image: Tensor, plan: RepairPlan, badness: np.ndarray) -> tuple[tuple[int, int], list[SEG]]:
    """Return the regions of one picture `(H, W, C)` as SEGS: its size, and a place for each."""
    places = []
    for number, region in enumerate(plan.regions, 1):
        left, top, right, bottom = region.box
        rows, columns = np.nonzero(region.mask)
        edges = [left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1]
        sure = float(badness[top:bottom, left:right][region.mask].mean())
        crop = image[None, top:bottom, left:right].cpu().numpy()
        mask = region.mask.astype(np.float32)
        places.append(SEG(crop, mask, sure, list(region.box), [int(e) for e in edges], f"{region.kind}{number}", None))
    return (int(image.shape[0]), int(image.shape[1])), places


def pick(before: Tensor, after: Tensor, is_new: Sequence[bool]) -> Tensor:
    """Return picture by picture the one that was chosen, bit for bit."""
    new = torch.tensor(list(is_new), device=before.device).view(-1, 1, 1, 1)
    return torch.where(new, after.to(before), before)


def put_back(image: Tensor, was: Sequence[Image.Image], now: Sequence[Image.Image]) -> Tensor:
    """Return an IMAGE with the pixels that changed; every other stays bit for bit what it was."""
    old, new = (torch.from_numpy(np.stack([np.asarray(p.convert("RGB")) for p in some])) for some in (was, now))
    changed = (old != new).any(-1, keepdim=True).to(image.device)
    colour = torch.where(changed, (new.float() / 255).to(image), image[..., :3])
    return torch.cat([colour, image[..., 3:]], -1)
