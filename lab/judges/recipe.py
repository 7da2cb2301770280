"""`python -m lab train mdiqa|lar-iqa|moe-agiqa`: train, measure on unseen scenes, write a card."""

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from grefine.errors import ConfigError, nearest
from grefine.io.atomic import write_atomic
from grefine.training.loop import Budget, Record
from lab.fit import Recipe
from lab.judges.card import model_card
from lab.judges.lar_iqa import LARIQASettings, train_lar_iqa
from lab.judges.mdiqa import MDIQASettings, train_mdiqa
from lab.judges.moe_agiqa import MoEAGIQASettings, train_moe_agiqa
from lab.judges.stream import JUDGE_TEST

RECIPES: dict[str, Recipe] = {
    "mdiqa": Recipe(MDIQASettings, train_mdiqa, ("channels", "stem_width", "width", "heads", "hidden", "gate_width")),
    "lar_iqa": Recipe(
        LARIQASettings,
        train_lar_iqa,
        ("encoder", "output_stride", "features", "expanded", "reduced", "whole_size", "crop_size"),
    ),
    "moe_agiqa": Recipe(
        MoEAGIQASettings,
        train_moe_agiqa,
        ("patch", "width", "heads", "blocks", "vision_depth", "text_depth", "text_length", "stem"),
    ),
}


def train_judge(
    name: str,
    out: Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    cpu: bool = False,
    config: str | Path | None = None,
) -> dict[str, Any]:
    """Train, or go on training, the judge `out`/`name` and return what it is worth on test scenes.

    Beside the component folder lie `training/NAME.json` (settings, curves) and inside it `metrics.json` and the card.
    """
    name = name.replace("-", "_")
    if name not in RECIPES:
        raise ConfigError(f"No judge '{name}': {', '.join(RECIPES)}{nearest(name, RECIPES)}")
    recipe, folder = RECIPES[name], out / name
    settings = recipe.open(config or name, seed)
    Record.load(out / "training", name).check(vars(settings), folder, only=recipe.shape)
    recipe.run(out, settings, Budget(minutes=minutes, steps=steps), Accelerator(cpu=cpu))
    found = measure_judge(name, out)
    write_atomic(folder / "metrics.json", json.dumps(found, indent=1).encode())
    write_atomic(folder / "README.md", model_card(name, folder, out / "training" / f"{name}.json", found).encode())
    return found


def measure_judge(name: str, out: Path, seed: int = JUDGE_TEST) -> dict[str, Any]:
    """Load a saved judge and measure it on scenes that no training and no other measurement has seen."""
    import torch

    from lab.judges import lar_iqa, mdiqa, moe_agiqa
    from lab.world.tokenizer import build_tokenizer

    def saved(kind: Any) -> Any:
        return kind.from_pretrained(out / name, torch_dtype=torch.float32)

    if name == "mdiqa":
        found, table = mdiqa.measure(saved(mdiqa.MDIQA), seed)
        return dict(found) | {"fall_by_distortion": table}
    if name == "lar_iqa":
        return lar_iqa.measure(saved(lar_iqa.LARIQA), seed)
    return moe_agiqa.measure(saved(moe_agiqa.MoEAGIQA), build_tokenizer(), seed)
