"""`grefine train tiny`: every part in order, each within its share of the budget, then the pipeline folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from grefine.config import load_config
from grefine.errors import ConfigError, nearest
from grefine.resources import config_file
from grefine.training.loop import Budget
from grefine.training.tiny.clip import ClipSettings, train_clip
from grefine.training.tiny.unet import UnetSettings, train_unet
from grefine.training.tiny.vae import VaeSettings, train_vae


@dataclass(frozen=True)
class Part:
    """One trained part of the embedded pipeline."""

    settings: type
    run: Callable[[Path, Any, Budget, Accelerator], dict[str, float]]
    share: float
    """Of the whole budget."""


PARTS: dict[str, Part] = {
    "vae": Part(VaeSettings, train_vae, 0.14),
    "clip": Part(ClipSettings, train_clip, 0.18),
    "unet": Part(UnetSettings, train_unet, 0.68),
}


def train_tiny(
    out: Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    parts: Sequence[str] = (),
    seed: int | None = None,
    cpu: bool = False,
) -> dict[str, dict[str, float]]:
    """Train the named parts (all without names) into `out`, going on from what lies there.

    Args:
        out: pipeline folder; its parts are resumed from.
        minutes: budget by the clock, divided among the parts.
        steps: budget in optimiser steps for each part; the same steps and seed give the same weights.
        parts: names out of `PARTS`.
        seed: in place of the seeds of the settings.
        cpu: stay on the CPU even where an accelerator is present.
    """
    chosen = list(parts) or list(PARTS)
    for name in chosen:
        if name not in PARTS:
            raise ConfigError(f"No part '{name}' in tiny: give one of {', '.join(PARTS)}{nearest(name, PARTS)}")
    accelerator = Accelerator(cpu=cpu)
    total = sum(PARTS[name].share for name in chosen)
    found = {}
    for name in chosen:
        part = PARTS[name]
        settings = load_config(config_file("train", f"tiny/{name}"), part.settings)
        if seed is not None:
            settings = replace(settings, seed=seed)
        _check_same(out, name, settings)
        share = Budget(minutes=minutes * part.share / total) if minutes is not None else Budget(steps=steps)
        found[name] = part.run(out, settings, share, accelerator)
    return found


_SHAPE = {
    "vae": ("channels", "layers", "latent_channels"),
    "clip": ("width", "layers", "heads", "surgery_layers", "patch", "text_width", "text_layers", "embed_dim", "n_ctx"),
    "unet": ("channels", "text_widths", "text_layers"),
}


def _check_same(out: Path, name: str, settings: Any) -> None:
    """Refuse to go on from a part of another shape."""
    import json

    path = out / "training" / f"{name}.json"
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))["runs"][-1]["settings"]
    for key in _SHAPE[name]:
        now = getattr(settings, key)
        was = before.get(key)
        if (list(now) if isinstance(now, tuple) else now) != was:
            raise ConfigError(
                f"'{out}' holds a {name} with {key} {was}, but the configuration asks for {now}: use another folder, "
                "or the configuration that made it."
            )
