"""Scorers around networks that are already in memory: what the guard of a pipeline uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from grefine.errors import PromptError
from grefine.models.lar_iqa import LARIQA
from grefine.models.mdiqa import DIMENSIONS, MDIQA, known_dimensions
from grefine.models.moe_agiqa import MoEAGIQA
from grefine.models.reward import RewardModel, semantic_view
from grefine.scorers.inputs import check_images, check_prompts, to_tensor
from grefine.scorers.protocol import Scorer
from grefine.scorers.specs import SPECS
from grefine.types import Scores

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from grefine.indicators.domain_check import DomainCheck

CHUNK = 16
"""Pictures (or crops) that go through a network together; it bounds memory and changes no value."""


class MDIQAScorer:
    """Score by MDIQA: `mdiqa.overall` and one value per dimension.

    Args:
        model: with or without its fusion network; without it there is no overall value.
        dimensions: only these, and no overall value; None for everything.
    """

    spec = SPECS["mdiqa"]

    def __init__(self, model: MDIQA, dimensions: Iterable[str] | None = None) -> None:
        self.model = model.eval()
        self.whole = dimensions is None and model.fusion is not None
        self.dimensions = DIMENSIONS if dimensions is None else known_dimensions(dimensions)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, "MDIQA", self.model.config["minimum"])
        weight = next(self.model.parameters())

        def rate(rows: list[int]) -> list[Scores]:
            batch = torch.stack([to_tensor(pictures[row]) for row in rows]).to(weight)
            out = self.model(batch) if self.whole else self.model.score(batch, self.dimensions)
            values = {f"mdiqa.{name}": out.dimensions[name] for name in self.dimensions}
            if out.overall is not None:
                values = {"mdiqa.overall": out.overall} | values
            return unbatch(values)

        return in_groups([picture.size for picture in pictures], CHUNK, rate)


class LARIQAScorer:
    """Score by LAR-IQA: one unbounded value, `lar_iqa`.

    Args:
        model: of any geometry.
        color_space: instead of the one the model was trained in.
    """

    spec = SPECS["lar_iqa"]

    def __init__(self, model: LARIQA, color_space: str | None = None) -> None:
        self.model = model.eval()
        self.color_space = color_space

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, "LAR-IQA")
        weight = next(self.model.parameters())
        # A 1280-pixel crop is as much as a whole batch of small pictures.
        chunk = max(1, CHUNK * 256**2 // self.model.config["crop_size"] ** 2)

        def rate(rows: list[int]) -> list[Scores]:
            views = [self.model.views(pictures[row], self.color_space) for row in rows]
            whole, crop = (torch.cat(parts).to(weight) for parts in zip(*views, strict=True))
            return unbatch({"lar_iqa": self.model(whole, crop)})

        return in_groups([()] * len(pictures), min(CHUNK, chunk), rate)


class MoEAGIQAScorer:
    """Score by MoE-AGIQA: `moe_agiqa.quality` and whatever else the model rates.

    All distinct crops of an image go through the network at once; its prompt is encoded once.

    Args:
        model: version 1 or 2, of any geometry.
        tokenizer: the one it was trained with.
    """

    spec = SPECS["moe_agiqa"]

    def __init__(self, model: MoEAGIQA, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, "MoE-AGIQA")
        texts = check_prompts(prompts, len(pictures), "MoE-AGIQA", required=True)
        config, weight = self.model.config, next(self.model.parameters())
        cut = [self.model.cut_crops(picture) for picture in pictures]
        names = [f"moe_agiqa.{name}" for name in config["outputs"]]

        def rate(rows: list[int]) -> list[Scores]:
            crops = torch.stack([cut[row][0] for row in rows]).to(weight)
            view = torch.cat([semantic_view(pictures[row], config["image_size"]) for row in rows]).to(weight)
            ids, mask = tokens(self.tokenizer, [texts[row] for row in rows], config["text_length"], weight.device)
            times = torch.stack([cut[row][1] for row in rows]).to(weight)[..., None]
            scores = (self.model(crops, view, ids, mask).scores * times).sum(dim=1) / times.sum(dim=1)
            return unbatch({name: scores[:, index] for index, name in enumerate(names)})

        counts = [len(crops) for crops, _ in cut]
        return in_groups(counts, CHUNK, rate, size=lambda count: count)


class ImageRewardScorer:
    """Score by ImageReward: one unbounded value, `imagereward`, about 0 for an average picture."""

    spec = SPECS["imagereward"]

    def __init__(self, model: RewardModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        pictures = check_images(images, "ImageReward")
        texts = check_prompts(prompts, len(pictures), "ImageReward", required=True)
        config, weight = self.model.config, next(self.model.parameters())

        def rate(rows: list[int]) -> list[Scores]:
            view = torch.cat([semantic_view(pictures[row], config["image_size"]) for row in rows]).to(weight)
            ids, mask = tokens(self.tokenizer, [texts[row] for row in rows], config["text_length"], weight.device)
            return unbatch({"imagereward": self.model(view, ids, mask)})

        return in_groups([()] * len(pictures), CHUNK, rate)


class DomainScorer:
    """A scorer that refuses pictures of a world that its network was never taught, unless forced."""

    def __init__(self, scorer: Scorer, domain: DomainCheck, force: bool = False) -> None:
        self.scorer, self.domain, self.force = scorer, domain, force
        self.spec = scorer.spec

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str] | None = None) -> list[Scores]:
        if not self.force:
            self.domain.demand(check_images(images, self.spec.name))
        return self.scorer(images, prompts)


def tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return ids and mask `(B, length)`, padded and cut to exactly that length."""
    if tokenizer.pad_token_id is None:
        raise PromptError("This tokenizer has no padding token, which prompt-aware scorers need.")
    found = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return found["input_ids"].to(device), found["attention_mask"].to(device)


def in_groups(
    keys: Sequence[Any],
    chunk: int,
    rate: Callable[[list[int]], list[Scores]],
    size: Callable[[Any], int] = lambda _: 1,
) -> list[Scores]:
    """Rate rows of equal keys together, at most `chunk` units of `size` at once, and return them in order."""
    found: dict[int, Scores] = {}
    for rows in groups(keys, chunk, size):
        found.update(zip(rows, rate(rows), strict=True))
    return [found[row] for row in range(len(keys))]


def groups(keys: Sequence[Any], chunk: int, size: Callable[[Any], int]) -> Iterator[list[int]]:
    """Yield row numbers of equal keys, in chunks."""
    rows_by_key: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        rows_by_key.setdefault(key, []).append(row)
    for key, rows in rows_by_key.items():
        step = max(1, chunk // size(key))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]


def unbatch(values: dict[str, Tensor]) -> list[Scores]:
    """Turn columns `(B,)` into one record per image."""
    columns = {name: column.float().tolist() for name, column in values.items()}
    return [Scores(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
