"""The guard's own scorers: those components of a pipeline that did not make the mask."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, WeightsMissing
from grefine.scorers.builders import tokenizer_beside
from grefine.scorers.clip_scores import CLIPIQA, ClipEncoder
from grefine.scorers.learned import ImageRewardScorer, LARIQAScorer, MDIQAScorer, MoEAGIQAScorer
from grefine.scorers.protocol import Scorer

WITH_WORDS = ("moe_agiqa", "reward", "clipiqa")
"""Judges that need a tokenizer: for the prompt, or for the texts that a picture is held against."""


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
    if pipe.clipiqa is not None and "clipiqa" not in steered:
        found.append(CLIPIQA(ClipEncoder(pipe.clipiqa, judge_tokenizer(pipe, "clipiqa"))))
    return found


def judge_tokenizer(pipe: Any, name: str) -> Any:
    """Return the tokenizer of a judge with words: from beside its weights, or CLIP's where it fits.

    Raises:
        ConfigError: neither is the case, so the judge would read other words than it was taught.
    """
    model = getattr(pipe, name)
    if vars(model).get("judge_tokenizer") is not None:
        return model.judge_tokenizer
    folder = Path(str(_setting(model, "_name_or_path") or ""))
    if folder.is_dir() and str(folder) != ".":
        try:
            model.judge_tokenizer = tokenizer_beside(folder)
            return model.judge_tokenizer
        except WeightsMissing:
            pass
    if pipe.clip_tokenizer is not None and len(pipe.clip_tokenizer) == _vocabulary(model):
        return pipe.clip_tokenizer
    raise ConfigError(
        f"The judge '{name}' has no tokenizer: set `pipe.{name}.judge_tokenizer` to the one that it was trained with, "
        f"put it into the folder '{name}/tokenizer' of the pipeline, or pass `scorers=[...]`."
    )


def save_judge_tokenizers(pipe: Any, folder: Path) -> None:
    """Keep each judge's tokenizer beside its saved weights."""
    for name in WITH_WORDS:
        model = getattr(pipe, name)
        if model is not None and (folder / name).is_dir():
            # Beside the weights: diffusers cannot list a folder of a variant that holds another folder.
            judge_tokenizer(pipe, name).save_pretrained(folder / name)


def _setting(model: Any, name: str) -> Any:
    """Read from a configuration of diffusers' or transformers' form."""
    return model.config.get(name) if hasattr(model.config, "get") else getattr(model.config, name, None)


def _vocabulary(model: Any) -> int | None:
    words = _setting(model, "text_config")
    return _setting(model, "vocabulary") if words is None else words.vocab_size
