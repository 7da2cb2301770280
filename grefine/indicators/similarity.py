"""Image features meet text features: plain tensor functions, nothing remembered."""

import torch
import torch.nn.functional as F
from torch import Tensor

from grefine.types import FeatureNorm


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
