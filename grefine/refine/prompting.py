"""`encode_prompt` as diffusers' users know it, over weighted and chunked encoding."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from grefine.errors import ConfigError, PromptError
from grefine.refine.emphasis import Weights
from grefine.refine.encode import count_chunks, encode_text


class PromptEncoding:
    """What a pipeline with SDXL's two text encoders needs to turn prompts into embeddings."""

    tokenizer: Any
    tokenizer_2: Any
    text_encoder: Any
    text_encoder_2: Any
    unet: Any
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
        if do_classifier_free_guidance and negative_prompt_embeds is None:
            if negative_prompt is None and self.config.force_zeros_for_empty_prompt:
                negative_prompt_embeds = torch.zeros_like(prompt_embeds)
                negative_pooled_prompt_embeds = torch.zeros_like(pooled_prompt_embeds)
            else:
                rows, length = prompt_embeds.shape[0], prompt_embeds.shape[1]
                negatives = _as_rows(negative_prompt or "", rows)
                chunks = length // self._tokenizers()[0].model_max_length
                negative_prompt_embeds, negative_pooled_prompt_embeds = self._encode(
                    negatives, [()] * rows, chunks, lora_scale, None
                )
        if do_classifier_free_guidance and negative_pooled_prompt_embeds is None:
            raise PromptError("`negative_prompt_embeds` needs `negative_pooled_prompt_embeds` beside it.")
        if not do_classifier_free_guidance:
            negative_prompt_embeds = negative_pooled_prompt_embeds = None

        dtype = self.text_encoder_2.dtype if self.text_encoder_2 is not None else prompt_embeds.dtype
        prompt_embeds = _placed(prompt_embeds, device, dtype, num_images_per_prompt)
        pooled_prompt_embeds = _placed(pooled_prompt_embeds, device, dtype, num_images_per_prompt)
        if negative_prompt_embeds is not None and negative_pooled_prompt_embeds is not None:
            negative_prompt_embeds = _placed(negative_prompt_embeds, device, dtype, num_images_per_prompt)
            negative_pooled_prompt_embeds = _placed(
                negative_pooled_prompt_embeds, device, dtype, num_images_per_prompt
            )
        return prompt_embeds, negative_prompt_embeds, pooled_prompt_embeds, negative_pooled_prompt_embeds

    def _tokenizers(self) -> list[Any]:
        found = [t for t in (self.tokenizer, self.tokenizer_2) if t is not None]
        if not found:
            raise ConfigError("This pipeline has no tokenizer: pass `prompt_embeds` instead of `prompt`.")
        return found

    def _encoders(self) -> list[Any]:
        return [e for e in (self.text_encoder, self.text_encoder_2) if e is not None]

    def _encode(
        self,
        texts: Sequence[str],
        weights: Sequence[Weights],
        chunks: int,
        lora_scale: float | None,
        clip_skip: int | None,
    ) -> tuple[Tensor, Tensor]:
        from diffusers.utils import scale_lora_layers, unscale_lora_layers

        if lora_scale is not None:
            for encoder in self._encoders():
                scale_lora_layers(encoder, lora_scale)
        try:
            rows = [
                encode_text(text, own, chunks, self._tokenizers(), self._encoders(), clip_skip)
                for text, own in zip(texts, weights, strict=True)
            ]
        finally:
            if lora_scale is not None:
                for encoder in self._encoders():
                    unscale_lora_layers(encoder, lora_scale)
        return torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])


def _placed(values: Tensor, device: torch.device, dtype: torch.dtype, times: int) -> Tensor:
    return values.to(device, dtype).repeat_interleave(times, dim=0)


def _as_rows(text: str | Sequence[str], rows: int) -> list[str]:
    found = [text] * rows if isinstance(text, str) else list(text)
    if len(found) == 1:
        found = found * rows
    if len(found) != rows:
        raise PromptError(f"{len(found)} negative prompts were given for {rows} prompts: give one for all or each.")
    return found
