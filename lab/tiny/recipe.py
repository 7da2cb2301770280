"""`python -m lab train tiny`: every part in order, each within its share of the budget, then the pipeline folder."""

from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from grefine.config import build
from grefine.errors import ConfigError, nearest
from grefine.training.loop import Budget, Record
from lab.fit import Recipe
from lab.tiny.clip import ClipSettings, train_clip
from lab.tiny.finisher import FinisherSettings, train_finisher
from lab.tiny.unet import UnetSettings, train_unet
from lab.tiny.vae import VaeSettings, train_vae

_VAE = ("channels", "layers", "latent_channels")
_CLIP = ("width", "layers", "heads", "surgery_layers", "patch", "text_width", "text_layers", "embed_dim", "n_ctx")
_UNET = ("channels", "text_widths", "text_layers")
PARTS: dict[str, Recipe] = {
    "vae": Recipe(VaeSettings, train_vae, _VAE, 0.14),
    "clip": Recipe(ClipSettings, train_clip, _CLIP, 0.18),
    "unet": Recipe(UnetSettings, train_unet, _UNET, 0.58),
    "decoder": Recipe(VaeSettings, train_vae, _VAE, 0.10),
    "finisher": Recipe(FinisherSettings, train_finisher, ("width", "coarse", "blocks"), 0.06),
}


CONTROLS: dict[str, Recipe] = {
    "contrastive": Recipe(ClipSettings, lambda out, *given: train_clip(out / "contrastive", *given), _CLIP, 0.3),
    "early": Recipe(UnetSettings, lambda out, *given: train_unet(out / "early", *given, out / "vae"), _UNET, 0.1),
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
    accelerator = Accelerator(cpu=cpu)
    total = sum(known[name].share for name in chosen)
    found = {}
    for name in chosen:
        part = known[name]
        settings = part.open(name, seed)
        recorded = {"decoder": "vae", "contrastive": "clip", "early": "unet"}.get(name, name)
        folder = (out if name in PARTS else out / name) / "training"
        Record.load(folder, recorded).check(vars(settings), folder.parent / recorded, only=part.shape)
        share = Budget(minutes=minutes * part.share / total) if minutes is not None else Budget(steps=steps)
        found[name] = part.run(out, settings, share, accelerator)
    return found


JUDGES = ("moe-agiqa", "mdiqa", "lar-iqa")


def train_again(out: Path, records: Path, cpu: bool = False) -> dict[str, dict[str, float]]:
    """Train what the records in a pipeline's `training` folder describe: the same parts, settings and time.

    Each part gets in one run the processor time that its recorded runs took together.
    """
    from lab.judges.recipe import RECIPES, train_judge

    accelerator, found = Accelerator(cpu=cpu), {}
    for name, part in PARTS.items():
        record = Record.load(records, name)
        if record.runs:
            settings = build(part.settings, record.runs[-1]["settings"])
            found[name] = part.run(out, settings, Budget(minutes=record.cpu_seconds / 60), accelerator)
    for name in JUDGES:
        record = Record.load(records, name.replace("-", "_"))
        if record.runs:
            alone = [run for run in record.runs if run["settings"].get("crops_stand")]
            minutes = record.cpu_seconds / 60 - sum(run["minutes"] for run in alone)
            found[name] = train_judge(name, out, minutes=minutes, cpu=cpu)
            for run in alone:
                settings = build(RECIPES[record.name].settings, run["settings"])
                found[name] = train_judge(name, out, minutes=run["minutes"], cpu=cpu, config=settings)
    if not found:
        raise ConfigError(f"'{records}' holds no records of training (vae.json, clip.json, ...).")
    return found
