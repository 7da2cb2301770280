"""Prompts to embeddings of both text encoders: weights by character range, long prompts in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grefine.errors import ConfigError
from grefine.refine.emphasis import Weights

MOST_CHUNKS = 4
"""Chunks of a prompt that are shown to the denoiser; each costs it one more text length of attention."""


@dataclass(frozen=True)
class Embeddings:
    """What the denoiser is told: with and without the prompt."""

    prompt: Tensor
    """`(B, chunks * L, D)`, both encoders side by side."""
    pooled: Tensor
    """`(B, D2)`"""
    negative: Tensor | None = None
    negative_pooled: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """What rows must share to be denoised together."""
        return tuple(self.prompt.shape[1:])


def stack(rows: Sequence[Embeddings]) -> Embeddings:
    """Put equally shaped rows into one batch."""
    guided = rows[0].negative is not None and rows[0].negative_pooled is not None
    return Embeddings(
        torch.cat([row.prompt for row in rows]),
        torch.cat([row.pooled for row in rows]),
        torch.cat([row.negative for row in rows if row.negative is not None]) if guided else None,
        torch.cat([row.negative_pooled for row in rows if row.negative_pooled is not None]) if guided else None,
    )


def count_chunks(text: str, tokenizers: Sequence[Any]) -> int:
    """Return in how many chunks a prompt is shown, at most `MOST_CHUNKS`."""
    counts = [-(-len(_split(text, t)[0]) // (t.model_max_length - 2)) for t in tokenizers]
    return min(max([1, *counts]), MOST_CHUNKS)


def encode_text(
    text: str,
    weights: Weights,
    chunks: int,
    tokenizers: Sequence[Any],
    encoders: Sequence[Any],
    clip_skip: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Encode one prompt as `(1, chunks * L, D)` and pooled `(1, D2)`.

    A weighted token moves away from, or towards, what the empty prompt says at its place:
    h_t <- h_t("") + w_t (h_t - h_t("")). The pooled embedding is the first chunk's, unweighted. (Eq. 7)
    """
    hidden, pooled = [], None
    for tokenizer, encoder in zip(tokenizers, encoders, strict=True):
        ids, spans = _split(text, tokenizer)
        rows, scale = _chunk_rows(ids, _weigh(spans, weights), chunks, tokenizer)
        states, projected = _run(encoder, rows, clip_skip)
        if any(weight != 1.0 for row in scale for weight in row):
            blank, _ = _chunk_rows([], [], 1, tokenizer)
            empty, _ = _run(encoder, blank, clip_skip)
            factor = torch.tensor(scale, device=states.device, dtype=states.dtype)[..., None]
            states = torch.where(factor == 1.0, states, empty + factor * (states - empty))
        hidden.append(states.reshape(1, -1, states.shape[-1]))
        pooled = projected[:1] if projected is not None else pooled
    if pooled is None:
        raise ConfigError("No text encoder gives a pooled embedding: text_encoder_2 must be one with projection.")
    return torch.cat(hidden, dim=-1), pooled


def _split(text: str, tokenizer: Any) -> tuple[list[int], list[tuple[int, int]]]:
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(found["input_ids"]), [tuple(span) for span in found["offset_mapping"]]


def _weigh(spans: list[tuple[int, int]], weights: Weights) -> list[float]:
    """Give each token the weight of the range that holds its first character."""
    found = []
    for start, end in spans:
        hits = [w for left, right, w in weights if left <= start < right and end > start]
        found.append(hits[0] if hits else 1.0)
    return found


def _chunk_rows(
    ids: list[int], weights: list[float], chunks: int, tokenizer: Any
) -> tuple[list[list[int]], list[list[float]]]:
    length = tokenizer.model_max_length
    room = length - 2
    rows, scales = [], []
    for index in range(chunks):
        part = ids[index * room : (index + 1) * room]
        scale = weights[index * room : (index + 1) * room]
        padding = length - 2 - len(part)
        rows.append([tokenizer.bos_token_id, *part, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * padding])
        scales.append([1.0, *scale, 1.0, *[1.0] * padding])
    return rows, scales


def _run(encoder: Any, rows: list[list[int]], clip_skip: int | None) -> tuple[Tensor, Tensor | None]:
    from diffusers.utils.torch_utils import get_module_execution_device

    device = get_module_execution_device(encoder)
    output = encoder(torch.tensor(rows, device=device), output_hidden_states=True)
    projected = output[0] if output[0].ndim == 2 else None
    return output.hidden_states[-2 - (clip_skip or 0)], projected
