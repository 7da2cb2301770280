"""The guard's own scorers: those components of a pipeline that did not make the mask."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, WeightsMissing
from grefine.scorers.builders import tokenizer_beside
from grefine.scorers.learned import ImageRewardScorer, LARIQAScorer, MDIQAScorer, MoEAGIQAScorer
from grefine.scorers.protocol import Scorer

PROMPT_AWARE = ("moe_agiqa", "reward")


def component_scorers(pipe: Any, steered: Collection[str] = ()) -> list[Scorer]:
    """Return a scorer for every judge that the pipeline holds, except those that steered the denoising."""
    found: list[Scorer] = []
    if pipe.moe_agiqa is not None and "moe_agiqa" not in steered:
        found.append(MoEAGIQAScorer(pipe.moe_agiqa, judge_tokenizer(pipe, "moe_agiqa")))
    if pipe.reward is not None and "reward" not in steered:
        found.append(ImageRewardScorer(pipe.reward, judge_tokenizer(pipe, "reward")))
    if pipe.mdiqa is not None and "mdiqa" not in steered:
        found.append(MDIQAScorer(pipe.mdiqa))
    if pipe.lar_iqa is not None and "lar_iqa" not in steered:
        found.append(LARIQAScorer(pipe.lar_iqa))
    return found


def judge_tokenizer(pipe: Any, name: str) -> Any:
    """Return the tokenizer of a prompt-aware judge: from beside its weights, or CLIP's where it fits.

    Raises:
        ConfigError: neither is the case, so the judge would read other words than it was taught.
    """
    model = getattr(pipe, name)
    if vars(model).get("judge_tokenizer") is not None:
        return model.judge_tokenizer
    folder = Path(str(model.config.get("_name_or_path") or ""))
    if folder.is_dir() and str(folder) != ".":
        try:
            model.judge_tokenizer = tokenizer_beside(folder)
            return model.judge_tokenizer
        except WeightsMissing:
            pass
    if pipe.clip_tokenizer is not None and len(pipe.clip_tokenizer) == model.config.get("vocabulary"):
        return pipe.clip_tokenizer
    raise ConfigError(
        f"The judge '{name}' has no tokenizer: set `pipe.{name}.judge_tokenizer` to the one that it was trained with, "
        f"put it into the folder '{name}/tokenizer' of the pipeline, or pass `scorers=[...]`."
    )


def save_judge_tokenizers(pipe: Any, folder: Path) -> None:
    """Keep each prompt-aware judge's tokenizer beside its saved weights."""
    for name in PROMPT_AWARE:
        model = getattr(pipe, name)
        if model is not None and (folder / name).is_dir():
            judge_tokenizer(pipe, name).save_pretrained(folder / name / "tokenizer")
