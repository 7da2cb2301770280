"""Texts for AQ-Map: split once, encoded once, remembered by their words."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine.errors import ConfigError
from grefine.models.clip_surgery import ClipSurgery

REMEMBERED = 8192
"""Texts kept before the oldest are dropped."""
BATCH = 64


def fingerprint(*modules: nn.Module) -> tuple[object, ...]:
    """Return a key that changes when a module's weights are trained, loaded or cast; moving them changes nothing."""
    return tuple(
        (id(weight), 0 if weight.is_inference() else weight._version, weight.dtype)
        for module in modules
        for weight in module.parameters()
    )


class TextFeatures:
    """Normalised text features of a CLIP, cached by text."""

    def __init__(self, clip: ClipSurgery, tokenizer: Any, templates: Sequence[str] = ("{}",)) -> None:
        if not templates or any("{}" not in template for template in templates):
            raise ConfigError(f"templates must be sentences with a place '{{}}' for the text, not {templates!r}.")
        self.clip, self.tokenizer, self.templates = clip, tokenizer, tuple(templates)
        self._cache: dict[str, Tensor] = {}
        self._key: object = None
        self._steady = 0

    def __len__(self) -> int:
        return len(self._cache)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return `(M, D)` float32 features of length one, in the order of `texts`."""
        if not self._steady:
            self._forget_if_trained()
        new = [text for text in dict.fromkeys(texts) if text not in self._cache]
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            self._cache |= dict(zip(part, self.encode(part), strict=True))
        features = torch.stack([self._cache[text] for text in texts])
        while len(self._cache) > REMEMBERED:
            self._cache.pop(next(iter(self._cache)))
        return features

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Look once whether the weights have changed, not again for every text: within it nobody trains them."""
        self._forget_if_trained()
        self._steady += 1
        try:
            yield
        finally:
            self._steady -= 1

    def _forget_if_trained(self) -> None:
        key = fingerprint(self.clip)
        if key != self._key:
            self._cache, self._key = {}, key

    def tokens(self, text: str) -> list[int]:
        """Return all token ids of a text, start and end included, however long."""
        if hasattr(self.tokenizer, "sot_token_id"):
            return [self.tokenizer.sot_token_id, *self.tokenizer.encode(text), self.tokenizer.eot_token_id]
        ids = list(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])
        return ids if ids and ids[-1] == self.clip.eos_token_id else [*ids, self.clip.eos_token_id]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return `(M, D)` features of length one, encoded anew, with gradients where these are wanted."""
        total, end, most = torch.zeros(()), self.clip.eos_token_id, self.clip.context_length
        for template in self.templates:
            rows = [self.tokens(template.replace("{}", text)) for text in texts]
            rows = [row if len(row) <= most else [*row[: most - 1], end] for row in rows]
            length = max(map(len, rows))
            ids = torch.tensor([row + [end] * (length - len(row)) for row in rows])
            total = total + F.normalize(self.clip(ids=ids.to(self.clip.device)).float(), dim=-1)
        return F.normalize(total, dim=-1)
