"""From a folder or file of weights to a scorer; every failure is one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from grefine.errors import WeightsCorrupt, WeightsMissing
from grefine.scorers.protocol import Scorer


def moe_agiqa(folder: Path, device: str) -> Scorer:
    """Load MoE-AGIQA and its tokenizer."""
    from grefine.models.moe_agiqa import MoEAGIQA
    from grefine.scorers.learned import MoEAGIQAScorer

    return MoEAGIQAScorer(component(MoEAGIQA, folder, device), tokenizer_beside(folder))


def mdiqa(folder: Path, device: str) -> Scorer:
    """Load MDIQA."""
    from grefine.models.mdiqa import MDIQA
    from grefine.scorers.learned import MDIQAScorer

    return MDIQAScorer(component(MDIQA, folder, device))


def lar_iqa(folder: Path, device: str) -> Scorer:
    """Load LAR-IQA."""
    from grefine.models.lar_iqa import LARIQA
    from grefine.scorers.learned import LARIQAScorer

    return LARIQAScorer(component(LARIQA, folder, device))


def imagereward(folder: Path, device: str) -> Scorer:
    """Load the reward model and its tokenizer."""
    from grefine.models.reward import RewardModel
    from grefine.scorers.learned import ImageRewardScorer

    return ImageRewardScorer(component(RewardModel, folder, device), tokenizer_beside(folder))


def clipscore(folder: Path, device: str) -> Scorer:
    """Load CLIP for CLIPScore."""
    from grefine.scorers.clip_scores import CLIPScore, load_clip

    return CLIPScore(*load_clip(folder, device))


def pickscore(folder: Path, device: str) -> Scorer:
    """Load CLIP for PickScore."""
    from grefine.scorers.clip_scores import PickScore, load_clip

    return PickScore(*load_clip(folder, device))


def clipiqa(folder: Path, device: str) -> Scorer:
    """Load CLIP for CLIPIQA."""
    from grefine.scorers.clip_scores import CLIPIQA, load_clip

    return CLIPIQA(*load_clip(folder, device))


def hpsv2(path: Path, device: str) -> Scorer:
    """Load open_clip's ViT-H-14 with the HPSv2 checkpoint."""
    from grefine.scorers.hpsv2 import HPSv2, load_hps

    return HPSv2(*load_hps(path, device))


def brisque(path: Path, device: str) -> Scorer:
    """Load a BRISQUE regression; it always runs on the CPU."""
    from grefine.scorers.brisque import BRISQUE, read_model

    return BRISQUE(read_model(path))


def piqe(device: str) -> Scorer:
    """Build PIQE; it needs nothing and always runs on the CPU."""
    from grefine.scorers.piqe import PIQE

    return PIQE()


def component(kind: Any, folder: Path, device: str) -> Any:
    """Load a component in float32, as saved by `save_pretrained`.

    Raises:
        WeightsCorrupt: a folder of something else, or a damaged one.
    """
    import torch

    config = folder / "config.json"
    if not config.is_file():
        raise WeightsCorrupt(f"'{folder}' holds no config.json, so it is no {kind.__name__} folder; convert it first.")
    try:
        found = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
        if found != kind.__name__:
            raise WeightsCorrupt(f"'{folder}' holds a {found or 'foreign model'}, not a {kind.__name__}.")
        return kind.from_pretrained(folder, torch_dtype=torch.float32).to(device).eval()
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, WeightsCorrupt):
            raise
        raise WeightsCorrupt(f"'{folder}' cannot be loaded as {kind.__name__}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return a loader's complaint in one sentence; that of another geometry comes with advice that does not help."""
    first = str(error).strip().splitlines()[0]
    shapes = re.search(r"(\S+) expected shape torch\.Size\((\[.*?\])\), but got torch\.Size\((\[.*?\])\)", first)
    if shapes is None:
        return first
    return f"its config.json asks for {shapes[1]} of shape {shapes[2]}, but its weights have {shapes[3]}."


def tokenizer_beside(folder: Path) -> Any:
    """Load the tokenizer of a prompt-aware network: in its folder, or as `tokenizer` of the pipeline around it.

    Raises:
        WeightsMissing: there is none.
    """
    from transformers import AutoTokenizer, CLIPTokenizer

    places = [folder / "tokenizer", folder, folder.parent / "clip_tokenizer", folder.parent / "tokenizer"]
    for place in places:
        config = place / "tokenizer_config.json"
        if config.is_file():
            kind = json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class", "")
            loader = CLIPTokenizer if kind.startswith("CLIP") else AutoTokenizer
            try:
                return loader.from_pretrained(place, local_files_only=True)
            except (OSError, ValueError) as error:
                raise WeightsCorrupt(
                    f"The tokenizer in '{place}' cannot be loaded: put all of its files there, config.json too "
                    "(for bert-base-uncased: config.json, tokenizer_config.json, tokenizer.json, vocab.txt)."
                ) from error
    raise WeightsMissing(
        f"'{folder}' has no tokenizer: put the one that it was trained with into '{folder / 'tokenizer'}' "
        "(for the published MoE-AGIQA and ImageReward that is bert-base-uncased)."
    )
