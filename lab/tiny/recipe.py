"""`python -m lab train tiny`: every part in order, each within its share of the budget, then the pipeline folder."""

from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from grefine.errors import ConfigError, nearest
from grefine.training.loop import Budget
from lab.fit import Recipe
from lab.tiny.clip import ClipSettings, train_clip
from lab.tiny.finisher import FinisherSettings, train_finisher
from lab.tiny.unet import UnetSettings, train_unet
from lab.tiny.vae import VaeSettings, train_vae

PARTS: dict[str, Recipe] = {
    "vae": Recipe(VaeSettings, train_vae, 0.14),
    "clip": Recipe(ClipSettings, train_clip, 0.18),
    "unet": Recipe(UnetSettings, train_unet, 0.58),
    "decoder": Recipe(VaeSettings, train_vae, 0.10),
    "finisher": Recipe(FinisherSettings, train_finisher, 0.06),
}


CONTROLS: dict[str, Recipe] = {
    "contrastive": Recipe(ClipSettings, lambda out, *given: train_clip(out / "contrastive", *given), 0.3),
    "early": Recipe(UnetSettings, lambda out, *given: train_unet(out / "early", *given, out / "vae"), 0.1),
}
"""What the benchmark compares with, made only when named, each in a folder of its own name: a CLIP that never sees a
mask, and a generator that stopped early."""


def train_tiny(
    out: Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    parts: Sequence[str] = (),
    seed: int | None = None,
    cpu: bool = False,
) -> dict[str, dict[str, float]]:
    """Train the named parts (all without names) into `out`, going on from what lies there."""
    chosen, known = list(parts) or list(PARTS), PARTS | CONTROLS
    for name in chosen:
        if name not in known:
            raise ConfigError(f"No part '{name}' in tiny: give one of {', '.join(known)}{nearest(name, known)}")
    whole, accelerator = Budget(minutes, steps), Accelerator(cpu=cpu)
    total = sum(known[name].share for name in chosen)
    found = {}
    for name in chosen:
        part = known[name]
        share = Budget(minutes=whole.minutes * part.share / total) if whole.minutes else whole
        found[name] = part.run(out, part.open(name, seed), share, accelerator)
    return found
