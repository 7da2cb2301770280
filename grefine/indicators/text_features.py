"""Texts for AQ-Map, encoded once and remembered by their words, and how features of images meet those of texts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine.models.clip_surgery import ClipSurgery
from grefine.types import FeatureNorm

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

    def __init__(self, clip: ClipSurgery, tokenizer: Any) -> None:
        self.clip, self.tokenizer = clip, tokenizer
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
        ids = list(self.tokenizer(text, truncation=False, verbose=False)["input_ids"])
        return ids if ids and ids[-1] == self.clip.eos_token_id else [*ids, self.clip.eos_token_id]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return `(M, D)` features of length one, encoded anew, with gradients where these are wanted."""
        end, most = self.clip.eos_token_id, self.clip.context_length
        rows = [self.tokens(text) for text in texts]
        rows = [row if len(row) <= most else [*row[: most - 1], end] for row in rows]
        length = max(map(len, rows))
        ids = torch.tensor([row + [end] * (length - len(row)) for row in rows])
        features = F.normalize(self.clip(ids=ids.to(self.clip.device)).float(), dim=-1)
        return F.normalize(features, dim=-1)  # again, for the last bit, on which stored hashes of maps stand


def normalise_features(features: Tensor, how: FeatureNorm) -> Tensor:
    """Divide `(B, 1 + N, D)` features by their norm over the tokens of each channel, or the channels of each token."""
    dim = 1 if how == "token" else -1
    return features / features.norm(dim=dim, keepdim=True).clamp_min(1e-12)


def factor_logits(features: Tensor, prompts: Tensor, feature_norm: FeatureNorm) -> Tensor:
    """Return `(B, 1 + N, 4, 2)` logits of features against the `(4, 2, D)` prompts, good before bad. (Eq. 3)"""
    return torch.einsum("bnd,fsd->bnfs", normalise_features(features, feature_norm), prompts)


def plain(features: Tensor, texts: Tensor) -> Tensor:
    """Return `(B, 1 + N, M)` cosines of features and `(M, D)` texts."""
    return F.normalize(features, dim=-1) @ F.normalize(texts, dim=-1).T


def min_max(values: Tensor) -> Tensor:
    """Stretch the last two dimensions to 0..1; a constant grid has no best place and becomes 0.5 everywhere."""
    low, high = values.amin(dim=(-2, -1), keepdim=True), values.amax(dim=(-2, -1), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (values - low) / spread.clamp_min(torch.finfo(values.dtype).tiny), 0.5)
