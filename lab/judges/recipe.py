"""`python -m lab train mdiqa|lar-iqa|moe-agiqa`: train, measure on unseen scenes, write a card."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from grefine.io.atomic import write_atomic
from grefine.models.lar_iqa import LARIQA
from grefine.models.mdiqa import MDIQA
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.training.loop import Budget
from lab.fit import Recipe
from lab.judges import lar_iqa, mdiqa, moe_agiqa
from lab.judges.lar_iqa import LARIQASettings, train_lar_iqa
from lab.judges.mdiqa import MDIQASettings, train_mdiqa
from lab.judges.moe_agiqa import MoEAGIQASettings, train_moe_agiqa
from lab.world.vocabulary import HELD_OUT_DEFECT

RECIPES: dict[str, tuple[Recipe, Any, Callable[..., dict[str, float]]]] = {
    "mdiqa": (Recipe(MDIQASettings, train_mdiqa), MDIQA, mdiqa.measure),
    "lar_iqa": (Recipe(LARIQASettings, train_lar_iqa), LARIQA, lar_iqa.measure),
    "moe_agiqa": (Recipe(MoEAGIQASettings, train_moe_agiqa), MoEAGIQA, moe_agiqa.measure),
}
_TAUGHT = Path(__file__).parent / "taught.md"
"""What each judge was taught, under its name."""


def train_judge(
    name: str,
    out: Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    cpu: bool = False,
    config: Any = None,
) -> dict[str, float]:
    """Train, or go on training, the judge `out`/`name`; measure it on scenes that nothing else saw, and write a card.

    `config`: settings, a YAML file or its name in lab/configs/tiny; without it the judge's own.
    """
    name = name.replace("-", "_")
    (recipe, kind, measure), folder = RECIPES[name], out / name
    settings = config if isinstance(config, recipe.settings) else recipe.open(config or name, seed)
    recipe.run(out, settings, Budget(minutes=minutes, steps=steps), Accelerator(cpu=cpu))
    found = measure(kind.from_pretrained(folder, torch_dtype=torch.float32))
    write_atomic(folder / "metrics.json", json.dumps(found, indent=1).encode())
    write_atomic(folder / "README.md", model_card(name, folder, out / "training" / f"{name}.json", found).encode())
    return found


def model_card(name: str, folder: Path, record: Path, measured: dict[str, float]) -> str:
    """Return the card of a trained judge as Markdown: what it is, what made it, its worth and where it ends."""
    trained = json.loads(record.read_text(encoding="utf-8"))
    settings = trained["runs"][-1]["settings"]
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
    rows = "\n".join(f"| {key} | {value:.3f} |" for key, value in measured.items())
    taught = _TAUGHT.read_text(encoding="utf-8").split(f"## {name}\n")[1].split("\n## ")[0].strip()
    spelled = ", ".join(f"{key} {value}" for key, value in settings.items())
    return f"""# Tiny {name}

{taught}

Never trained on: the defect "{HELD_OUT_DEFECT}", the held-out pairs of noun and colour, the seeds of other parts.
It knows the toy world alone: on any other picture its values mean nothing.

Made by `python -m lab train {name.replace("_", "-")}`; {trained["samples"]:,} pictures,
{trained["cpu_seconds"] / 60:.1f} CPU-minutes in {len(trained["runs"])} run(s). Settings: {spelled}.
Weights: {size:.2f} MB, float16, Apache-2.0.

| on unseen test scenes | |
| --- | --- |
{rows}
"""
