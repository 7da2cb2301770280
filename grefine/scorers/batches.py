"""Pictures of mixed sizes through a network: together where they fit together, each with the value it has alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from grefine.errors import GRefineError, PromptError
from grefine.scorers.inputs import check_images, check_prompts
from grefine.scorers.protocol import Images, Prompts, Scorer
from grefine.types import MetricSpec, Scores

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

CHUNK = 16
"""Pictures (or crops) that go through a network together; it bounds memory and changes no value."""


def tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return ids and mask `(B, length)`, padded and cut to exactly that length."""
    if tokenizer.pad_token_id is None:
        raise PromptError("This tokenizer has no padding token, which prompt-aware scorers need.")
    found = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return found["input_ids"].to(device), found["attention_mask"].to(device)


class NetworkJudge:
    """A judge whose `rate` takes some pictures, and prompts where its `spec` asks for them, through a network."""

    spec: MetricSpec
    minimum = 1
    """Least side of a picture."""
    chunk = CHUNK

    def __call__(self, images: Images, prompts: Prompts = None) -> list[Scores]:
        pictures = check_images(images, self.spec.name, self.minimum)
        texts = check_prompts(prompts, len(pictures), self.spec.name, required=self.spec.needs_prompt)

        def rate(rows: list[int]) -> list[Scores]:
            return unbatch(self.rate([pictures[row] for row in rows], [texts[row] for row in rows]))

        return in_groups([self.key(picture) for picture in pictures], self.chunk, rate)

    def key(self, picture: Image.Image) -> Any:
        """Return what pictures that go through the network together have in common."""
        return ()

    def rate(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> dict[str, Tensor]:
        """Return values `(B,)` by name."""
        raise NotImplementedError


def in_groups(
    keys: Sequence[Any],
    chunk: int,
    rate: Callable[[list[int]], list[Scores]],
    size: Callable[[Any], int] = lambda key: 1,
) -> list[Scores]:
    """Rate rows of equal keys together, at most `chunk` units of `size` at once, without gradients, in order."""
    import torch

    found: dict[int, Scores] = {}
    with torch.inference_mode():
        for rows in groups(keys, chunk, size):
            found.update(zip(rows, rate(rows), strict=True))
    return [found[row] for row in range(len(keys))]


def rate(scorer: Scorer, images: Images, prompts: Prompts = None) -> list[Mapping[str, float] | GRefineError]:
    """Return each image's values, or why the scorer refuses it; one that it refuses costs no other."""
    try:
        return [found.values for found in scorer(images, prompts)] if images else []
    except GRefineError as error:
        if len(images) == 1:
            return [error]
        return [rate(scorer, [one], prompts and [prompts[i]])[0] for i, one in enumerate(images)]


def groups(keys: Sequence[Any], chunk: int, size: Callable[[Any], int] = lambda key: 1) -> Iterator[list[int]]:
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
