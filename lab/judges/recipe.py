"""`python -m lab train mdiqa|lar-iqa|moe-agiqa`: train, measure on unseen scenes, write a card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from grefine.config import load_config
from grefine.errors import ConfigError, nearest
from grefine.io.atomic import write_atomic
from grefine.training.loop import Budget
from lab import CONFIGS
from lab.judges.card import model_card
from lab.judges.lar_iqa import LARIQASettings, train_lar_iqa
from lab.judges.mdiqa import MDIQASettings, train_mdiqa
from lab.judges.moe_agiqa import MoEAGIQASettings, train_moe_agiqa
from lab.judges.stream import JUDGE_TEST


@dataclass(frozen=True)
class JudgeRecipe:
    """How one judge is made."""

    settings: type
    run: Callable[[Path, Any, Budget, Accelerator], dict[str, float]]
    resumable: tuple[str, ...]
    """Settings that may change between runs; all others fix the network or what it is taught."""


_SHARES = ("damaged_share", "distorted_share", "single_share", "files")
_FREE = ("batch", "muon_lr", "adam_lr", "seed", "versions", *_SHARES)
RECIPES: dict[str, JudgeRecipe] = {
    "mdiqa": JudgeRecipe(
        MDIQASettings,
        train_mdiqa,
        (
            *_FREE,
            "norm_weight",
            "overall_weight",
            "spots",
            "spot_share",
            "spot_weight",
            "direction_weight",
            "local_exponent",
        ),
    ),
    "lar_iqa": JudgeRecipe(LARIQASettings, train_lar_iqa, (*_FREE, "correlation_weight", "damage_weight")),
    "moe_agiqa": JudgeRecipe(
        MoEAGIQASettings,
        train_moe_agiqa,
        (
            *_FREE,
            "norm_weight",
            "alignment_weight",
            "phrase_weight",
            "damage_weight",
            "content_weight",
            "looking",
        ),
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

    Args:
        out: folder of judges, usually a pipeline's.
        minutes, steps: the budget, one of the two.
        seed: in place of the one of lab/configs/tiny.
        cpu: stay on the CPU even where an accelerator is present.
        config: a YAML file in place of lab/configs/tiny/NAME.yaml.

    Raises:
        ConfigError: an unknown judge, a budget too small for one evaluation, or a resume of another configuration.
    """
    name = name.replace("-", "_")
    if name not in RECIPES:
        raise ConfigError(f"No judge '{name}': {', '.join(RECIPES)}{nearest(name, RECIPES)}")
    recipe = RECIPES[name]
    settings = load_config(Path(config) if config else CONFIGS / "tiny" / f"{name}.yaml", recipe.settings)
    if seed is not None:
        settings = replace(settings, seed=seed)
    _check_same(out, name, settings, recipe)
    accelerator = Accelerator(cpu=cpu)
    recipe.run(out, settings, Budget(minutes=minutes, steps=steps), accelerator)
    found = measure_judge(name, out)
    folder = out / name
    write_atomic(folder / "metrics.json", json.dumps(found, indent=1).encode())
    write_atomic(folder / "README.md", model_card(name, folder, out / "training" / f"{name}.json", found).encode())
    return found


def measure_judge(name: str, out: Path, seed: int = JUDGE_TEST) -> dict[str, Any]:
    """Load a saved judge and measure it on scenes that no training and no other measurement has seen."""
    import torch

    if name == "mdiqa":
        from grefine.models.mdiqa import MDIQA
        from lab.judges.mdiqa import measure

        found, table = measure(MDIQA.from_pretrained(out / name, torch_dtype=torch.float32), seed)
        return dict(found) | {"fall_by_distortion": table}
    if name == "lar_iqa":
        from grefine.models.lar_iqa import LARIQA
        from lab.judges.lar_iqa import measure as measure_lar

        return dict(measure_lar(LARIQA.from_pretrained(out / name, torch_dtype=torch.float32), seed))
    from grefine.models.moe_agiqa import MoEAGIQA
    from lab.judges.moe_agiqa import measure as measure_moe
    from lab.world.tokenizer import build_tokenizer

    model = MoEAGIQA.from_pretrained(out / name, torch_dtype=torch.float32)
    return dict(measure_moe(model, build_tokenizer(), seed))


def _check_same(out: Path, name: str, settings: Any, recipe: JudgeRecipe) -> None:
    path = out / "training" / f"{name}.json"
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))["runs"][-1]["settings"]
    for key, value in before.items():
        now = getattr(settings, key, None)
        now = list(now) if isinstance(now, tuple) else now
        if key not in recipe.resumable and now != value:
            raise ConfigError(
                f"'{out / name}' was trained with {key}={value}, the configuration says {now}: "
                "give another --out, or the old value."
            )
