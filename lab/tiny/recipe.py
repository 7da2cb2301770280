"""`python -m lab train tiny`: every part in order, each within its share of the budget, then the pipeline folder."""

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from grefine.errors import ConfigError, nearest
from grefine.indicators.aq_map import AQMap
from grefine.indicators.calibrate import calibrate
from grefine.indicators.pq_map import PQMap
from grefine.models.clip_surgery import ClipSurgery
from grefine.models.domain import DomainNet
from grefine.models.finisher import Finisher
from grefine.models.lar_iqa import LARIQA
from grefine.models.mdiqa import MDIQA
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.models.pq_prompts import PQPrompts
from grefine.pipeline import GRefinePipeline
from grefine.training.loop import Budget, Record
from lab import table
from lab.fit import Recipe
from lab.judges.recipe import RECIPES, train_judge
from lab.tiny.clip import ClipSettings, train_clip
from lab.tiny.finisher import FinisherSettings, train_finisher
from lab.tiny.unet import UnetSettings, train_unet
from lab.tiny.vae import VaeSettings, train_vae
from lab.world.captions import describe
from lab.world.pictures import as_files, to_picture
from lab.world.stream import VALIDATE, batch, generator

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


def train_again(out: Path, records: Path, cpu: bool = False) -> dict[str, dict[str, float]]:
    """Train what the records in a pipeline's `training` folder say: the same parts, settings and processor time."""
    accelerator, found = Accelerator(cpu=cpu), {}
    for name, recipe in PARTS.items():
        record = Record.load(records, name)
        if record.runs:
            budget = Budget(minutes=record.cpu_seconds / 60)
            found[name] = recipe.run(out, recipe.recorded(record.runs[-1]), budget, accelerator)
    for name, (recipe, *_) in RECIPES.items():
        record = Record.load(records, name)
        alone = [run for run in record.runs if run["settings"].get("crops_stand")]  # trained on with the rest at rest
        if record.runs:
            minutes = record.cpu_seconds / 60 - sum(run["minutes"] for run in alone)
            found[name] = train_judge(name, out, minutes=minutes, cpu=cpu)
        for run in alone:
            found[name] = train_judge(name, out, minutes=run["minutes"], cpu=cpu, config=recipe.recorded(run))
    if not found:
        raise ConfigError(f"'{records}' holds no records of training (vae.json, clip.json, ...).")
    return found


REQUIRED: dict[str, Any] = {
    "vae": AutoencoderKL,
    "unet": UNet2DConditionModel,
    "scheduler": DDIMScheduler,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "tokenizer": CLIPTokenizer,
    "tokenizer_2": CLIPTokenizer,
    "clip": ClipSurgery,
    "clip_tokenizer": CLIPTokenizer,
    "pq_prompts": PQPrompts,
}
OPTIONAL: dict[str, Any] = {
    "moe_agiqa": MoEAGIQA,
    "mdiqa": MDIQA,
    "lar_iqa": LARIQA,
    "domain": DomainNet,
    "finisher": Finisher,
}
STATED: dict[str, Any] = table("configs/tiny/pipeline.yaml")
"""What the pipeline states besides its parts."""
PIPELINE_FILE = '''"""So that diffusers finds the class: the code is grefine's."""

from grefine import GRefinePipeline  # noqa: F401
'''


FALSE_ALARMS = 0.1
"""Share of good scenes that all gates together may send to repair; the guard still judges what is made of them."""


def assemble(folder: Path, scenes: int = 512) -> GRefinePipeline:
    """Make `folder`, which holds trained parts, a pipeline, calibrated on clean scenes, half of them files."""
    missing = [name for name in REQUIRED if not (folder / name).is_dir()]
    if missing:
        raise ConfigError(f"'{folder}' lacks {', '.join(missing)}: train those parts first.")
    parts = {name: kind.from_pretrained(folder / name) for name, kind in REQUIRED.items()}
    parts |= {
        n: kind.from_pretrained(folder / n) for n, kind in OPTIONAL.items() if (folder / n / "config.json").is_file()
    }
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            part.float().eval()
    images, prompts = _pictures(scenes)
    pq = PQMap(parts["clip"], parts["pq_prompts"])
    done = calibrate(pq, AQMap(parts["clip"], parts["clip_tokenizer"]), images, prompts, false_alarms=FALSE_ALARMS)
    pipe = GRefinePipeline(**parts, **STATED, calibration=done.calibration.to_dict() | {"counts": True})
    pipe.to(dtype=torch.float16).save_pretrained(folder)
    pipe.to(dtype=torch.float32)
    forget_origins(folder)
    shutil.rmtree(folder / "moe_agiqa" / "tokenizer", ignore_errors=True)  # it was saved again beside the weights
    (folder / "pipeline.py").write_text(PIPELINE_FILE, encoding="utf-8")
    (folder / "README.md").write_text(model_card(folder), encoding="utf-8")
    return pipe


def forget_origins(folder: Path) -> None:
    """Take out of the saved configurations where on this machine the parts were read from."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _pictures(count: int) -> tuple[list[Image.Image], list[str]]:
    rng = random.Random(VALIDATE)
    clean: list[Image.Image] = []
    prompts: list[str] = []
    for number in range(-(-count // 64)):
        data = batch(VALIDATE, 200 + number, min(64, count - 64 * number))
        clean += map(to_picture, as_files(data.clean.images, generator(VALIDATE, 300 + number), 0.5))
        prompts += [describe(data.scenes, i, rng).text for i in range(len(data.scenes))]
    return clean, prompts


def model_card(folder: Path) -> str:
    """Write the card from the training records that lie in the folder."""
    rows = []
    for path in sorted((folder / "training").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if "rows" not in record or not record["rows"]:
            continue
        last = {k: v for k, v in record["rows"][-1].items() if k not in ("step", "samples", "cpu_seconds")}
        measured = ", ".join(f"{name} {value:.3g}" for name, value in last.items() if not name.startswith("loss"))
        rows.append(f"| {record['name']} | {record['samples']:,} | {record['cpu_seconds'] / 60:.0f} | {measured} |")
    card = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    return card + "\n".join(["| part | samples | CPU minutes | last evaluation |", "|---|---|---|---|", *rows]) + "\n"
