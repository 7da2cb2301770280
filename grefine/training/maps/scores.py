"""What PQ-Map and AQ-Map say of whole pictures, with gradients, and how well that agrees with opinions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from grefine.evaluate.correlation import plcc, srcc
from grefine.indicators.aq_map import scaled_logits
from grefine.indicators.calibration import Calibration
from grefine.indicators.defects import alignment_score
from grefine.indicators.pq_map import cask
from grefine.indicators.readings import Product
from grefine.indicators.text_features import TextFeatures
from grefine.types import ParsedPrompt


def quality_scores(tokens: Tensor, texts: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """Return p `(...)` and the four factors `(..., 4)` of tokens. (Eq. 3)

    Args:
        tokens: `(..., D)` features, already normalised as the prompts want them.
        texts: `(4, 2, D)` encoded prompts, good before bad.
        limits: `(3,)` alpha times user bounds.
    """
    logits = torch.einsum("...d,fsd->...fs", tokens, texts)
    chances = logits.softmax(dim=-1)[..., 0]
    return cask(chances, limits), chances


def alignment_scores(
    features: Tensor,
    image_of: Tensor,
    prompts: Sequence[ParsedPrompt],
    texts: TextFeatures,
    calibration: Calibration,
    product: Product = "worst3",
) -> Tensor:
    """Return a `(P,)` of prompts, each about its own picture. (Eq. 5, 8)"""
    parts = [[phrase.text for phrase in prompt.phrases] for prompt in prompts]
    asked = list(
        dict.fromkeys(text for prompt, own in zip(prompts, parts, strict=True) for text in (prompt.text, *own))
    )
    encoded = texts.encode([*asked, ""])
    at = {text: column for column, text in enumerate(asked)}
    seen = F.normalize(features, dim=-1)
    own_scale = texts.clip.logit_scale.exp()
    # The whole prompt has nobody to compete with.
    paired = "empty" if calibration.redundant == "compete" else calibration.redundant
    scores: list[Any] = []
    for row, (prompt, own) in enumerate(zip(prompts, parts, strict=True)):
        tokens = seen[int(image_of[row])]
        columns = [at[prompt.text], *(at[text] for text in own), len(asked)]
        cosines = tokens @ encoded[columns].T
        whole = scaled_logits(cosines[:1][:, [0, -1]], calibration.prompts, own_scale, paired)[0, 0].sigmoid()
        places = cosines[:1, 1:] if calibration.phrase_score == "class" else cosines[1:, 1:]
        logits = scaled_logits(places, calibration.phrases, own_scale, calibration.redundant)
        chances = logits.softmax(dim=-1)[:, :-1] if calibration.redundant == "compete" else logits.sigmoid()
        judged = [j for j, phrase in enumerate(prompt.phrases) if phrase.drawable and not phrase.negated]
        aligned: list[Any] = [chances[:, j].amax() for j in judged]
        scores.append(alignment_score(whole, aligned, calibration.beta, product))  # type: ignore[arg-type]
    return torch.stack(scores)


def agreement(scores: Tensor, opinions: Tensor) -> dict[str, float]:
    """Return rank and linear correlation (0 where either does not vary) and the root of the mean squared error."""
    a, b = scores.double().numpy(), opinions.double().numpy()
    found = {"srcc": srcc(a, b), "plcc": plcc(a, b), "rmse": float(np.sqrt(np.mean((a - b) ** 2)))}
    return {name: 0.0 if np.isnan(value) else value for name, value in found.items()}


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the precision-recall curve of flat scores against bool truth."""
    order = np.argsort(-scores, kind="stable")
    hits = truth[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(hits.sum(), 1))
