"""Prompts to embeddings of both text encoders: weights by character range, long prompts in chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from diffusers.utils import scale_lora_layers, unscale_lora_layers
from diffusers.utils.torch_utils import get_module_execution_device
from torch import Tensor

from grefine.errors import ConfigError, PromptError
from grefine.refine.inputs import read_prompts
from grefine.types import Weights

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

    @classmethod
    def stack(cls, rows: Sequence[Self]) -> Self:
        """Put equally shaped rows into one batch."""
        columns = zip(*((row.prompt, row.pooled, row.negative, row.negative_pooled) for row in rows), strict=True)
        return cls(*(None if column[0] is None else torch.cat(column) for column in columns))


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
        # Each token has the weight of the range that holds its first character.
        hits = [[w for left, right, w in weights if left <= start < right and end > start] for start, end in spans]
        rows, scale = _chunk_rows(ids, [hit[0] if hit else 1.0 for hit in hits], chunks, tokenizer)
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


def _chunk_rows(
    ids: list[int], weights: list[float], chunks: int, tokenizer: Any
) -> tuple[list[list[int]], list[list[float]]]:
    room = tokenizer.model_max_length - 2
    rows, scales = [], []
    for index in range(chunks):
        part = ids[index * room : (index + 1) * room]
        scale = weights[index * room : (index + 1) * room]
        padding = room - len(part)
        rows.append([tokenizer.bos_token_id, *part, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * padding])
        scales.append([1.0, *scale, 1.0, *[1.0] * padding])
    return rows, scales


def _run(encoder: Any, rows: list[list[int]], clip_skip: int | None) -> tuple[Tensor, Tensor | None]:
    output = encoder(torch.tensor(rows, device=get_module_execution_device(encoder)), output_hidden_states=True)
    return output.hidden_states[-2 - (clip_skip or 0)], output[0] if output[0].ndim == 2 else None


class PromptEncoding:
    """What a pipeline with SDXL's two text encoders needs to turn prompts into embeddings."""

    tokenizer: Any
    tokenizer_2: Any
    text_encoder: Any
    text_encoder_2: Any
    config: Any
    _execution_device: torch.device

    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None,
        device: torch.device | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
        weights: Sequence[Weights] | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Encode prompts with both text encoders."""
        device = device or self._execution_device
        if prompt_embeds is None:
            texts = [prompt] if isinstance(prompt, str) else list(prompt or ())
            if not texts:
                raise PromptError("Give `prompt`, or `prompt_embeds` with `pooled_prompt_embeds`.")
            given = weights or [()] * len(texts)
            chunks = max(count_chunks(text, self._tokenizers()) for text in texts)
            prompt_embeds, pooled_prompt_embeds = self._encode(texts, given, chunks, lora_scale, clip_skip)
        if pooled_prompt_embeds is None:
            raise PromptError("`prompt_embeds` needs `pooled_prompt_embeds` beside it (encode_prompt returns both).")
        if not do_classifier_free_guidance:
            negative_prompt_embeds = negative_pooled_prompt_embeds = None
        elif negative_prompt_embeds is None and negative_prompt is None and self.config.force_zeros_for_empty_prompt:
            negative_prompt_embeds = torch.zeros_like(prompt_embeds)
            negative_pooled_prompt_embeds = torch.zeros_like(pooled_prompt_embeds)
        elif negative_prompt_embeds is None:
            rows, length = prompt_embeds.shape[:2]
            negatives = read_prompts(negative_prompt, rows, "negative prompts")
            chunks = length // self._tokenizers()[0].model_max_length
            found = self._encode(negatives, [()] * rows, chunks, lora_scale, None)
            negative_prompt_embeds, negative_pooled_prompt_embeds = found
        elif negative_pooled_prompt_embeds is None:
            raise PromptError("`negative_prompt_embeds` needs `negative_pooled_prompt_embeds` beside it.")

        dtype = self.text_encoder_2.dtype if self.text_encoder_2 is not None else prompt_embeds.dtype

        where = device, dtype, num_images_per_prompt
        prompt_embeds, pooled_prompt_embeds = _placed(prompt_embeds, *where), _placed(pooled_prompt_embeds, *where)
        if negative_prompt_embeds is not None and negative_pooled_prompt_embeds is not None:
            negative_prompt_embeds = _placed(negative_prompt_embeds, *where)
            negative_pooled_prompt_embeds = _placed(negative_pooled_prompt_embeds, *where)
        # Names and nothing else: diffusers' testers read from them which argument of a call each value is.
        return prompt_embeds, negative_prompt_embeds, pooled_prompt_embeds, negative_pooled_prompt_embeds

    def _tokenizers(self) -> list[Any]:
        found = [t for t in (self.tokenizer, self.tokenizer_2) if t is not None]
        if not found:
            raise ConfigError("This pipeline has no tokenizer: pass `prompt_embeds` instead of `prompt`.")
        return found

    def _encode(
        self,
        texts: Sequence[str],
        weights: Sequence[Weights],
        chunks: int,
        lora_scale: float | None,
        clip_skip: int | None,
    ) -> tuple[Tensor, Tensor]:
        encoders = [encoder for encoder in (self.text_encoder, self.text_encoder_2) if encoder is not None]
        for encoder in encoders if lora_scale is not None else ():
            scale_lora_layers(encoder, lora_scale)
        try:
            rows = [
                encode_text(text, own, chunks, self._tokenizers(), encoders, clip_skip)
                for text, own in zip(texts, weights, strict=True)
            ]
        finally:
            for encoder in encoders if lora_scale is not None else ():
                unscale_lora_layers(encoder, lora_scale)
        return torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])


def _placed(values: Tensor, device: torch.device, dtype: torch.dtype, times: int) -> Tensor:
    return values.to(device, dtype).repeat_interleave(times, dim=0)


GivenEmbeddings = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""Prompt, negative, pooled, negative pooled: what `encode_prompt` returns and takes."""
