"""Judges as components of pipelines: in a folder that `save_pretrained` wrote, or in memory."""

import json
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from grefine.errors import ConfigError, WeightsCorrupt, WeightsMissing, in_words
from grefine.scorers.protocol import Scorer
from grefine.scorers.registry import JudgeFile, judge_files


def pipeline_judges(pipe: Any, steered: Collection[str] = ()) -> list[Scorer]:
    """Return a scorer for every judge that a loaded pipeline holds, except the components that steered (`steered`)."""
    files = [file for file in judge_files().values() if file.SPEC.component and file.SPEC.component not in steered]
    return [scorer for file in files if (scorer := pipeline_judge(pipe, file, guard=True)) is not None]


def pipeline_judge(pipe: Any, file: JudgeFile, guard: bool = False) -> Scorer | None:
    """Return one judge around the component that a loaded pipeline holds, or as the `guard` asks it; or None."""
    name = file.SPEC.component
    model = getattr(pipe, name, None) if name else None
    if model is None:
        return None
    wrap = getattr(file, "guard", file.wrap) if guard else file.wrap
    return wrap(model, component_tokenizer(pipe, name)) if file.SPEC.words else wrap(model)


def component_tokenizer(pipe: Any, name: str) -> Any:
    """Return the tokenizer of a judge with words: from beside its weights, or CLIP's where it fits."""
    model = getattr(pipe, name)
    if vars(model).get("judge_tokenizer") is not None:
        return model.judge_tokenizer
    folder = str(_setting(model, "_name_or_path") or "")
    if folder and Path(folder).is_dir():
        with suppress(WeightsMissing):
            return _kept_tokenizer(Path(folder))
    text = _setting(model, "text_config")
    vocabulary = _setting(model, "vocabulary") if text is None else text.vocab_size
    if pipe.clip_tokenizer is not None and len(pipe.clip_tokenizer) == vocabulary:
        return pipe.clip_tokenizer
    raise ConfigError(
        f"The judge '{name}' has no tokenizer: put its own beside its weights or into `pipe.{name}.judge_tokenizer`."
    )


def save_judge_tokenizers(pipe: Any, folder: Path) -> None:
    """Keep each judge's tokenizer beside its saved weights."""
    for spec in (file.SPEC for file in judge_files().values() if file.SPEC.words):
        home = folder / spec.component
        if getattr(pipe, spec.component, None) is not None and home.is_dir():
            # Beside the weights: diffusers cannot list a folder of a variant that holds another folder.
            component_tokenizer(pipe, spec.component).save_pretrained(home)


def _setting(model: Any, name: str) -> Any:
    """Read from a configuration of diffusers' or transformers' form."""
    return model.config.get(name) if hasattr(model.config, "get") else getattr(model.config, name, None)


def load_component(kind: Any, folder: Path, device: str) -> Any:
    """Load a component in float32, as saved by `save_pretrained`."""
    import torch

    config = folder / "config.json"
    if not config.is_file():
        raise WeightsCorrupt(f"'{folder}' holds no config.json, so it is no {kind.__name__} folder; convert it first.")
    try:
        found = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
        if found == kind.__name__:
            return kind.from_pretrained(folder, torch_dtype=torch.float32).to(device).eval()
    except (OSError, ValueError, RuntimeError) as error:
        # Of another geometry the loader's complaint comes with advice that does not help.
        is_other = "expected shape" in str(error)
        reason = "its weights have other shapes than its config.json." if is_other else in_words(error)
        raise WeightsCorrupt(f"'{folder}' cannot be loaded as {kind.__name__}: {reason}") from error
    raise WeightsCorrupt(f"'{folder}' holds a {found or 'foreign model'}, not a {kind.__name__}.")


def tokenizer_beside(folder: Path) -> Any:
    """Load the tokenizer of a prompt-aware network: in its folder, or as `tokenizer` of the pipeline around it."""
    from transformers import AutoTokenizer, CLIPTokenizerFast

    places = [folder / "tokenizer", folder, folder.parent / "clip_tokenizer", folder.parent / "tokenizer"]
    for place in places:
        config = place / "tokenizer_config.json"
        if config.is_file():
            kind = json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class", "")
            loader = CLIPTokenizerFast if kind.startswith("CLIP") else AutoTokenizer
            try:
                return loader.from_pretrained(place, local_files_only=True, trust_remote_code=False)
            except (OSError, ValueError) as error:
                raise WeightsCorrupt(
                    f"The tokenizer in '{place}' cannot be loaded: put all of its files there, its config.json too."
                ) from error
    raise WeightsMissing(
        f"'{folder}' has no tokenizer: put its own there, or into '{folder / 'tokenizer'}' (often bert-base-uncased)."
    )


_kept_tokenizer = lru_cache(maxsize=8)(tokenizer_beside)
